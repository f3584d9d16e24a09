"""Tests of `folding/cleaning/`."""
