"""Servers, faulty children, receivers and a fake service for the tests."""
