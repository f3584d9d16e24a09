"""Tests of `service/ledger/`."""
