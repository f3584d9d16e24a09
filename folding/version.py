"""The version of this package; asking for that of the distribution takes as long as reading a small model."""

VERSION = "0.1.0"  # as in pyproject.toml
