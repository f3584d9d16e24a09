"""Tests of `folding/fleet/`."""
