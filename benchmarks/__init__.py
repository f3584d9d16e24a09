"""bnfold side by side with the tools a user would pick instead; ``python -m benchmarks --help`` tells the options."""
