"""What a fold costs by size, and how waiting grows with load: the figures of docs/capacity.md."""
