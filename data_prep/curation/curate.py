"""Filter data sets: measure every row, decide, write what is kept, the ledger and the funnel."""

from pathlib import Path
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.decide import decide
from data_prep.curation.measure import measure
from data_prep.engines.config import Engine, LocalEngine
from data_prep.progress import Track, silent


def curate(
    folders: dict[str, Path],
    steps: CurationSteps,
    out: Path,
    track: Track = silent,
    engine: Engine | None = None,
    against: dict[str, Path] | None = None,
) -> dict[str, Any]:
    """`measure` and `decide`: `out` gets what `decide` writes, and the measured job in `out/measured`."""
    engine = engine or LocalEngine(workers=1)
    job = measure(folders, steps, out / "measured", engine, against, track)
    return decide(job, steps, out, engine, track)
