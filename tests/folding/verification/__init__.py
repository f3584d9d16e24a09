"""Tests of `folding/verification/`."""
