"""`python -m eval`; see eval/commands/cli.py."""

import sys

from eval.commands.cli import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
