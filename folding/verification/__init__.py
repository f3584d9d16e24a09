"""Verification: run the original and the folded model on the same samples in a bounded process, and compare them.

parent (`verify`, in the caller's process), emulated (what runs in place of 16-bit models), standby (a child that is
started early), job (what the two exchange), child (the bounded process), compare, actual, samples,
runtime, judge (in it).

Import its modules one by one: the parent must not load ONNX Runtime, and the child must not load onnx. The room is not
called `verify`, because a package with that name would hide the function `folding.verify`. May import:
`folding.report.model`, `folding.targets`, `folding.execution`, `folding.process`, `folding.errors`.
"""
