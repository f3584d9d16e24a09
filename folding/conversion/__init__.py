"""Change what a model declares, not what it computes: opset, IR version, functions, shapes, types of indices."""
