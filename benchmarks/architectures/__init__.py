"""What real architectures leave: exported, folded, counted; ``python -m benchmarks.architectures --help``."""
