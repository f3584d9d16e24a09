"""Tests of `service/http/`."""
