"""Graph: the ModelProto, indexed. The message stays the only graph; here and in `onnxfile` protobuf is known.

From the bottom: weights (constants as recipes), node and index (operators, scopes, names: what a rule may ask),
inference, evaluation, grids, constants, sizes, shapes (what is known without running the model), values (the one door
of a scope to them, and `indexed`, which makes a graph), sites (which operators are affine maps), surgery and writeback
(changes, and the way back into the message), functions (inlining).

Rooms above import its modules one by one. May import: `folding.algebra`, `folding.onnxfile`, `folding.process`,
`folding.errors`, `folding.refusal`.
"""
