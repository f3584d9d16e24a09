"""Execution: what it takes to run a model, as it is or in other types than its own. Import its modules one by one.

facts (what verification needs to know before a model runs) and probes (what it looks at besides the outputs);
interpreter and kernels (a model computed in NumPy, in float64 if need be); emulation (16-bit types in float32), with
rewriting, halves (which values have them), angles (which have none), widened (constants) and ordering.

May import: `folding.onnxfile`, `folding.errors`.
"""
