"""Tests of `service/webhook/`."""
