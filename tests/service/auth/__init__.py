"""Tests of `service/auth/`."""
