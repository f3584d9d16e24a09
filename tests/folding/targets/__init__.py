"""Tests of `folding/targets/`."""
