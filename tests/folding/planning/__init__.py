"""Tests of `folding/planning/`."""
