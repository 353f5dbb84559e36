"""The command line: `python -m eval model=MODEL tasks=[TASK,…] …`."""

import sys
from collections.abc import Sequence

from data_prep.commands.cli import UsageError, parse
from data_prep.errors import DataError
from data_prep.gate import build
from eval.commands.benchmark import refuse_unknown, with_benchmarks
from eval.commands.config import EvalConfig
from eval.commands.decoding import with_named_decoding

USAGE = """\
python -m eval model=FOLDER_OR_HUB_ID tasks=[piqa,boolq] [base=FOLDER_OR_HUB_ID]
    measure a model on packaged benchmarks, alone or against another one
python -m eval model=… tasks=[gsm8k] settings.gsm8k.shots=2 data.gsm8k.limit=100
    the same with a field changed
python -m eval model=… tasks=[mine] data.mine.source=FILE [settings.mine.kind=choice] [metrics.mine=[exact_match,f1]]
    measure it on rows of your own: perplexity and generated answers, or a task
python -m eval model=… tasks=[arc_easy] against=lm_eval [limit=100] [include=FOLDER]
    let lm-evaluation-harness measure it

Every setting is in docs/evaluation.md.
"""


def main(arguments: Sequence[str]) -> int:
    """Measure; 0, 2 for a wrong command line, 3 for a model or data that cannot be used."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    try:
        config = config_of(arguments)
        from eval.commands.measure import measure

        measure(config)
    except UsageError as error:
        return _fail(error, 2)
    except DataError as error:
        return _fail(error, 3)
    except OSError as error:
        return _fail(DataError(f"{error.filename or 'file'}: {error.strerror or error}"), 3)
    except KeyboardInterrupt:
        return _fail(DataError("stopped; the same command goes on at the first unfinished batch"), 130)
    return 0


def config_of(arguments: Sequence[str]) -> EvalConfig:
    """The settings that `key=value` arguments ask for; UsageError where one of them means nothing."""
    words = [each for each in arguments if "=" not in each]
    if words:
        raise UsageError(f"{words[0]}: settings have the form key=value; `python -m eval` shows them")
    values = with_benchmarks(with_named_decoding(parse(list(arguments))))
    config = build(EvalConfig, values, "", UsageError)
    if config.against is None:
        refuse_unknown(config)
    return config


def _fail(error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code
