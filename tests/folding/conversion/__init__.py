"""Tests of `folding/conversion/`."""
