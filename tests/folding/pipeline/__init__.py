"""Tests of `folding/pipeline/`."""
