"""Report: what was folded and where, what stayed and why, and the verification. Import its modules one by one.

model (plain data and its JSON form; its parts changes, equalized, findings, types), errors (of a fold that ends with a
report and no output), gates (what is demanded), digest and ready (what all forms have in common), forms (what a report
writes itself in): text, markdown, html with html_ready, elements, pictures and style.

A report is read without loading onnx. May import: `folding.options`, `folding.errors`, `folding.refusal`.
"""
