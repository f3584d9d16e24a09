"""Tests of `folding/algebra/`."""
