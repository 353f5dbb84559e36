"""`python -m data_prep`; see data_prep/commands/cli.py."""

import sys

from data_prep.commands.cli import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
