"""Ledger: records of jobs, keys, holders of blobs, and webhooks. Every commit is on the disk before it is reported.

interface (what a ledger does), records (what it stores), views and events (the JSON of a job and of its end),
database, schema and migrations, sql (jobs, holdings, keys, rows, webhooks: the ledger in SQL).

May import: `service.blobs` (addresses), `service.problems`. Import its modules one by one: few need SQLAlchemy.
"""
