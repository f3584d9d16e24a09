"""Report: what was folded where, what stayed and why, how the result compares. Import its modules one by one.

model (plain data and its JSON form), errors (of a fold that ends with a report and no output), digest (what every form
says), text, html, markdown, pictures, style, file (by the suffix of its name).

A report is read without onnx. May import: `folding.options`, `folding.errors`.
"""
