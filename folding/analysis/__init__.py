"""Analysis: what is known of the values of a graph without running the model. Import its modules one by one.

evaluation and selecting (operators computed on constants), constants (stored values, and what is computed from them),
stored (their bytes, of which only those are read that one asks for); inference (onnx's, in a process of its own),
inlined (the small constants that it reads), lengths, sizes, uncertain (what it states although a runtime may have
another length), shapes (all of it, recorded in the index), ended (why a shape is unknown); values (a scope's only
access to constants and shapes, and `indexed`, which builds a graph).

May import: `folding.graph` and all below it.
"""
