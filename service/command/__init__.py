"""Command: the commands of the service; `main` is their entry, which `folding.command.handover` calls.

admin and worker have commands of their own; checks is what is looked at before a start, variables and parsing are where
settings come from, and starting is what the log says at a start.
"""
