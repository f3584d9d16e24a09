"""The HTTP service of bnfold: it takes a model, folds it in a bounded child process, and returns the result."""
