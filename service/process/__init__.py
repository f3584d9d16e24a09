"""The process of one fold, and what closes it in. Import its modules one by one: a child must not load the server.

children (processes that wait ready), child (one of them), forkserver and template (what they are copied from), sandbox
with namespaces, walls, landlock and seccomp (what they cannot do), watch (what they use); in the process itself:
worker, confine.

May import: `service.work`, `service.metrics` and what is below them; the worker only `folding` and `service.work`.
"""
