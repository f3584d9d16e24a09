"""`python -m folding` is the command `bnfold`."""

import sys

from folding.command.start import main

if __name__ == "__main__":
    sys.exit(main())
