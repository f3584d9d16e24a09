"""Webhook: signed events to the receivers that clients name, and to no private address.

outbox (delivers what the ledger holds), receivers (requests to strangers), addresses (which of them are public).

May import: `service.ledger`, `service.metrics`, `service.secret`, `service.options` and what is below them.
"""
