"""Random graphs for hypothesis."""
