"""Traces: what took how long, from a request through its job to its webhook. Off, nothing is loaded or recorded."""
