"""Tests of `folding/editing/`."""
