"""Editing: change a graph, and write it back to its message. Import its modules one by one.

surgery (single changes), rewiring (who reads what), retyping (element types), composing (several operators as one),
inlining (the operators of a branch in the place of its If), functions (inlined where callers pass the constants);
writeback (operators and constants, as the message has them).

May import: `folding.analysis` and all below it.
"""
