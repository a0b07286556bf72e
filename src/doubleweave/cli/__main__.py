"""`python -m doubleweave.cli`."""

import sys

from doubleweave.cli import main

if __name__ == "__main__":
    sys.exit(main())
