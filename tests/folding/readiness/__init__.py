"""Tests of `folding/readiness/`."""
