"""Tests of `folding/report/`."""
