"""Tests of `service/tracing/`."""
