"""The survey of what remains in real architectures after a fold; see ``python -m benchmarks.architectures --help``."""
