"""Command: the command line `bnfold`. Import its modules one by one, so that a command loads only what it needs.

start (the entry point), main (the commands), endings (their exit codes), parser (its errors), options (those of the
library), models (which files), gates, progress (bars), remote (`--server`), explain (the codes), handover (the commands
of the service). Several models: fleet (the story), pool (of processes), worker (such a process), record (what is done).

May import: everything in `folding`; of `service` only what `handover` starts.
"""
