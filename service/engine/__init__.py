"""Engine: runs folds in bounded child processes. Import its modules one by one: a child must not load the server.

local (jobs on this machine), children (spare processes), child (one process), sandbox (bubblewrap); in the child
process itself: worker, confine.

May import: `service.blobs`, `service.ledger`, `service.storage`, `service.metrics` and what is below them; the worker
only `folding` and `service.work`.
"""
