"""`python -m folding` is the command `bnfold`."""

import sys

from folding.command.main import main

if __name__ == "__main__":
    sys.exit(main())
