"""The command line: `python -m data_prep [COMMAND] key=value …`."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from data_prep.errors import DataError
from data_prep.gate import nearest

USAGE = """\
python -m data_prep input=FILES output=FOLDER [steps=[STEP,…]] [steps.STEP.option=value …] [engine=ray]
    curate files (jsonl, json, csv, parquet, arrow, txt; also .gz and .zst) into FOLDER/rows.jsonl, with the ledger
python -m data_prep why ID [in=FOLDER]
    every measure of one row, and every reason against it
python -m data_prep rethreshold FOLDER output=NEW steps.STEP.option=value …
    decide again under other thresholds, without measuring again
python -m data_prep train-quality positive=FILES negative=FILES output=FOLDER
    train a quality classifier
python -m data_prep mix sources.NAME=FOLDER … [parts.NAME.weight=2] [parts.NAME.epochs=1.5] [rows=N] output=FOLDER
    mix dataset folders

Every setting is in docs/data_prep.md.
"""

COMMANDS = {
    "curate": "data_prep.commands.curate",
    "why": "data_prep.commands.why",
    "rethreshold": "data_prep.commands.rethreshold",
    "train-quality": "data_prep.commands.train_quality",
    "mix": "data_prep.commands.mix",
}
"""Command → the module whose `run(arguments, settings)` does it."""


class UsageError(DataError):
    """The command line asks for something that does not exist (exit code 2)."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0, 2 for a wrong command line, 3 for data that cannot be used."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    try:
        _dispatch(list(arguments))
    except UsageError as error:
        return _fail(error, 2)
    except DataError as error:
        return _fail(error, 3)
    except OSError as error:
        return _fail(DataError(f"{error.filename or 'file'}: {error.strerror or error}"), 3)
    except KeyboardInterrupt:
        return _fail(DataError("stopped; the same command goes on at the first unfinished shard"), 130)
    return 0


def _dispatch(arguments: list[str]) -> None:
    name = "curate" if "=" in arguments[0] else arguments.pop(0)
    if name not in COMMANDS:
        raise UsageError(f"{name}: no such command{nearest(name, COMMANDS)}; allowed: {', '.join(COMMANDS)}")
    words = [each for each in arguments if "=" not in each]
    settings = parse([each for each in arguments if "=" in each])
    run: Callable[[list[str], dict[str, Any]], None] = import_module(COMMANDS[name]).run
    run(words, settings)


def parse(pairs: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` pairs as a nested mapping, values read as Hydra's command line reads them."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return dict(OmegaConf.to_container(OmegaConf.from_dotlist(list(pairs)), resolve=True))  # pyright: ignore
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{' '.join(pairs)}: cannot be read ({' '.join(str(error).split())}); quote lists") from error


def _fail(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        # A curation alone has no stages.
        print(f"error: {line.replace('stages.filter.', '')}", file=sys.stderr)
    return code
