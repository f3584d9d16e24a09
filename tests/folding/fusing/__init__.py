"""Tests of `folding/fusing/`."""
