"""bnfold on PyTorch modules: families of networks, patterns against PyTorch's own fusers, random modules."""
