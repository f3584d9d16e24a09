"""Auth: who may send requests, and what becomes of those of a key that has ended.

keys (API keys), tokens (of an OpenID Connect issuer), guests (the requests under way of each), audit (who did what).

May import: `service.ledger`, `service.storage`, `service.problems`, `service.threads` and what is below them.
"""
