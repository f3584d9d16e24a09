"""What a runtime accepts and runs well, as data: one file for each, and its reading."""
