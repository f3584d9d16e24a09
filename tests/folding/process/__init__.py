"""Tests of `folding/process/`."""
