"""A browser and a server for the tests of the page."""
