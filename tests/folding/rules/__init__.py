"""Tests of `folding/rules/`."""
