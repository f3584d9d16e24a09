"""The HTTP service of bnfold: a model comes in, is folded in a limited child process, and its address comes back."""
