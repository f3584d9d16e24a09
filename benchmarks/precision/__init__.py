"""Converters to 16 bits side by side on small networks; see ``python -m benchmarks.precision --help``."""
