"""Tests of `folding/analysis/`."""
