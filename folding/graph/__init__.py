"""Graph: an index of the ModelProto. The message stays the only graph.

From the bottom: weights (constants as recipes), node and index (operators, scopes, names: what a rule may ask),
inference, evaluation, grids, constants, sizes, shapes (what is known without running the model), values (a scope's
only access to them, and `indexed`, which builds a graph), sites (which operators are affine maps), surgery and
writeback (changes, and writing them to the message), functions (inlining).

Rooms above import its modules one by one. May import: `folding.algebra`, `folding.onnxfile`, `folding.process`,
`folding.errors`, `folding.refusal`.
"""
