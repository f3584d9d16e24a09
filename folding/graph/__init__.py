"""Graph: an index of the ModelProto. The message stays the only graph. Import its modules one by one.

From the bottom: dtypes, weights (constants as recipes) with narrowed and halves (constants of 16 bits), node and index
(operators, scopes, names: what a rule may ask), grids (of quantized tensors), schemas, sites (which operators are
affine maps), matching and idioms (small graphs that runtimes recognize).

May import: `folding.algebra`, `folding.onnxfile`, `folding.errors`, `folding.refusal`.
"""
