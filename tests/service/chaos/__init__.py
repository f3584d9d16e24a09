"""Chaos: what can happen to the service, at random moments; whatever was accepted ends as it deserves."""
