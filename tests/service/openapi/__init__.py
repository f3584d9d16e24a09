"""Tests of `service/openapi/`."""
