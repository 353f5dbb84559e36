"""Run a launcher of ranks (torchrun, Accelerate), and end it with the run that started it.

    python -m pipeline.launched MODULE [ARGUMENT ...]

Killed with -9, a run cannot stop its launcher. Ranks notice that themselves, but a launcher that still waits for the
ranks of other machines has none yet, and would wait for minutes.
"""

import os
import runpy
import sys

from pipeline.worker import PARENT, end_with


def main() -> None:
    """Be the module, with its arguments."""
    parent = os.environ.get(PARENT)
    end_with(os.getppid(), int(parent) if parent else None)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
