"""Engine: which jobs run now, and what their ends mean. Import its modules one by one.

local (jobs on this machine), cluster and member (jobs of several), runner (one job), turns (whose job is next).

May import: `service.process`, `service.blobs`, `service.ledger`, `service.storage`, `service.metrics` and what is below
them.
"""
