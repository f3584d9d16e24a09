"""Tests of `folding/onnxfile/`."""
