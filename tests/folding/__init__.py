"""Tests of `folding/`."""
