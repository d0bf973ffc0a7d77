"""`python -m rejeu.cli` is the `rejeu` command."""

import sys

from rejeu.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
