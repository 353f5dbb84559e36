"""`python -m pipeline`."""

import sys
from pathlib import Path

# Python puts the current folder first: a `conf/` or an `eval.py` of the user's there must not stand in for ours.
if Path(sys.path[0] or ".").resolve() != Path(__file__).parents[1]:
    del sys.path[0]

from pipeline.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
