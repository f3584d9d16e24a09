"""Tests of `folding/execution/`."""
