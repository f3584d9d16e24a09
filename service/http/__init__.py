"""HTTP: requests and their responses. Only the commands import this room.

app (the application), fold, batches, resumable, jobs, mine, blobs, health (the operations), access (keys and quotas),
uploads, forms, headers, views, delivery (files), middleware, connections (slow clients).

May import: everything in `service`, and of `folding` the report's page.
"""
