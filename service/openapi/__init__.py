"""OpenAPI: what the document says beyond the types of the operations.

answers, headers, uploads (parts of the document), events (webhooks), document (what every operation has).

May import: `service.ledger` (views, events), `service.options`, `service.problems`, `service.settings`,
`service.work`.
"""
