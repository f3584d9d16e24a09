"""Engine: work in bounded children. Import its modules one by one: the process of a fold must not load the server.

local (jobs on this machine), children (those that wait ready), child (one of them), sandbox (bubblewrap); and in the
process itself: worker, confine.

May import: `service.blobs`, `service.ledger`, `service.storage`, `service.metrics` and what is below them; the worker
only `folding` and `service.work`.
"""
