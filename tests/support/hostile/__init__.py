"""Models, files and uploads that were made to harm."""
