"""How the data of the targets are made: from the documents of the runtimes, and from the packages that can be asked."""
