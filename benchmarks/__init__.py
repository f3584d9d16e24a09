"""Compares bnfold with tools that a user could choose instead; ``python -m benchmarks --help`` lists the options."""
