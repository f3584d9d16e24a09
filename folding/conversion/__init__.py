"""Conversion: change what a model declares, not what it computes: opset, IR version, functions, shapes, types.

opset (another operator set; `adapters/` has one form of an operator as another, schemas what onnx says of both, here
what an adapter may know and add), ir (the IR version), functions and bodies (inlining), leftovers (of training), types
and doubles (narrower ones), shapes (of inputs, fixed; dimensions as they are declared and written), record (inferred
shapes into the file; names for open axes), recipe (what to type next), unread (constants that nothing reads any more).

All functions take plain arguments, change `OnnxFile.model` as a whole or not at all, and return what they changed.
Weights are never read: payloads follow their markers. May import: `folding.editing` and all below it.
"""
