"""What a runtime would make of a model, operator by operator: what it refuses, what falls back, what it fuses."""
