"""Tests of `folding/client/`."""
