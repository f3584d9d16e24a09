"""Write an idiom, which folding leaves whole, as the one operator that it is, and operators that a target lacks.

fuse (which idioms become operators, and doing it), operator (an operator as data, and what holds for all of them),
activations, attention, normalizations, products (what each idiom becomes), forms (operators written out).

May import: `folding.editing`, `folding.report`, `folding.targets` and what is below them.
"""
