"""OpenAPI: what the document says beyond the types of the operations.

answers, headers, uploads (the parts), events (webhooks), document (what holds for every operation).

May import: `service.ledger` (views, events), `service.options`, `service.problems`, `service.settings`,
`service.work`.
"""
