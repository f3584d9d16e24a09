"""The rows of the rule tables: a model with one affine, and what the fold makes of it."""
