"""Tests of `folding/scaling/`."""
