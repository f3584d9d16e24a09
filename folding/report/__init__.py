"""Report: what was folded and where, what stayed and why, and the verification. Import its modules one by one.

model (plain data and its JSON form), errors (of a fold that ends with a report and no output), digest (what all forms
have in common), text, html, markdown, pictures, style, file (the form follows from the suffix of the name); gates (what
is demanded). Of several models: fleet, and its forms fleet_text, fleet_html, fleet_markdown, for CI junit and sarif.

A report is read without loading onnx. May import: `folding.options`, `folding.errors`, `folding.refusal`.
"""
