"""Tests of `folding/archive/`."""
