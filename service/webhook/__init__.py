"""Webhook: sends signed events to the URLs that clients name, and to no private address.

outbox (delivers what the ledger holds), receivers (requests to receivers), addresses (which of them are public).

May import: `service.ledger`, `service.metrics`, `service.secret`, `service.options` and what is below them.
"""
