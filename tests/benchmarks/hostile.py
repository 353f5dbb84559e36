"""Seconds per megabyte of text made to be slow, for every step that looks at rows by themselves.

OMP_NUM_THREADS=1 python -m tests.benchmarks.hostile
"""

import random
import time
from collections.abc import Callable, Iterator

from data_prep.curation.config import CurationSteps
from data_prep.curation.pii.kinds import KINDS
from data_prep.curation.registry import make_editors, make_steps
from data_prep.rows import Row
from tests.data_prep.hostile_texts import HOSTILE
from tests.data_prep.test_pii_linear import ADVERSARIAL

MEGABYTE = 1_000_000
SHOWN = 3


def main() -> None:
    """The slowest texts of each step."""
    steps = CurationSteps.model_validate(
        {"normalise": {}, "language": {}, "quality": {"rows": "all"}, "toxicity": {}, "pii": {"kinds": list(KINDS)}}
    )
    works: dict[str, Callable[[Row], object]] = {name: edit.edit for name, edit in make_editors(steps, None).items()}
    works |= {name: lambda row, step=step: step.measure([row]) for name, step in make_steps(steps, None).items()}
    texts = dict(hostile_texts())
    for name, work in works.items():
        work(_row("Models and patterns are loaded before the clock starts."))
        slowest = sorted(((seconds(work, text), shown) for shown, text in texts.items()), reverse=True)[:SHOWN]
        print(f"{name:12}" + "; ".join(f"{taken:.2f} s {shown!r}" for taken, shown in slowest))


def seconds(work: Callable[[Row], object], text: str) -> float:
    """Processor time per megabyte of UTF-8."""
    row = _row(text)
    start = time.thread_time()
    work(row)
    return (time.thread_time() - start) * MEGABYTE / len(text.encode("utf-8", "surrogatepass"))


def hostile_texts() -> Iterator[tuple[str, str]]:
    """A megabyte of each: repeated units, whole texts, and lists of numbers that are all different."""
    for unit in (*ADVERSARIAL, *HOSTILE.values()):
        yield unit[:20], (unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE]
    draw = random.Random(0)
    yield "identity numbers", " ".join(f"{draw.randrange(10**8):08}Z" for _ in range(100_000))
    yield (
        "social security",
        " ".join(
            f"{draw.randrange(900):03}-{draw.randrange(100):02}-{draw.randrange(10**4):04}" for _ in range(80_000)
        ),
    )
    yield "phones", " ".join(f"+44 20 {draw.randrange(10**4):04} {draw.randrange(10**4):04}" for _ in range(60_000))
    yield "cards", " ".join(f"4{draw.randrange(10**15):015}" for _ in range(58_000))


def _row(text: str) -> Row:
    return {"id": "0", "source": "hostile", "text": text}


if __name__ == "__main__":
    main()
