"""Command: the command line `bnfold`. Import its modules one by one, so that a command loads only what it needs.

start (the entry point), main (the commands and their exit codes), parser (its errors), options (those of the library),
progress (bars), remote (`--server`), explain (the codes), handover (the commands of the service).

May import: everything in `folding`; of `service` only what `handover` starts.
"""
