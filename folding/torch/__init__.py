"""Torch: from an `nn.Module` to a folded ONNX file (`from_torch`), or to a folded module (`fold_module`).

examples (example inputs, and generated ones of the same shapes), modules (what trains, which module an operator comes
from), export (both exporters, normalizations kept apart), failures (what an export fails of, in a sentence), reference
(PyTorch judges the result), convert (`from_torch`).

The only room that imports PyTorch, and it does so when one of its functions is called: `import torch` in a module of
this room is PyTorch, since imports are absolute.
"""
