"""The HTTP service of bnfold. It does not exist yet: ``bnfold serve`` says so and exits with 2."""
