"""Tests of `folding/graph/`."""
