"""Torch: from an `nn.Module` to a folded ONNX file (`from_torch`), or to a folded module (`fold_module`).

examples (example inputs, and generated ones of the same shapes), modules (what trains, which module an operator comes
from), reference (PyTorch judges the result), failures (what an export fails of, in a sentence), loading (what a command
line names).
convert (`from_torch`): export (both exporters, normalizations kept apart).
fold (`fold_module`, `inspect_module`): capture (torch.export's graph), skeleton (that graph as an ONNX model),
operators, shaping and arguments (which ATen operator is which of ONNX), carry (what folding did, carried over to a new
graph), forms (ONNX's operators as PyTorch's), layers (parameters and modules under their names).

The only room that imports PyTorch, and it does so when one of its functions is called: `import torch` in a module of
this room is PyTorch, since imports are absolute.
"""
