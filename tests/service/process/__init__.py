"""Tests of `service/process/`."""
