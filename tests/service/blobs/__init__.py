"""Tests of `service/blobs/`."""
