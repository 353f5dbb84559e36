"""Decide which rows of a measured job are kept; write them, the ledger and the funnel. Nothing is measured again."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.curation.config import CurationSteps
from data_prep.curation.duplicates import Duplicates, resolve
from data_prep.curation.funnel import check_left, funnel_of
from data_prep.curation.job import Job, Shard
from data_prep.curation.ledger import Verdicts, join_ledgers, write_ledger
from data_prep.curation.measure import COUNTS, INDEX
from data_prep.curation.registry import judging, make_steps
from data_prep.curation.step import Step
from data_prep.curation.what_if import what_if
from data_prep.engines.config import Engine
from data_prep.engines.engine import run_tasks, start_engine
from data_prep.progress import Track, silent
from data_prep.rows import SPLITS, Row, write_stats, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "1"


@dataclass(frozen=True)
class DecideTask:
    """One shard to decide about."""

    shard: Shard
    first_row: int
    job: str
    """Folder of the measured job."""
    steps: str
    """CurationSteps as JSON."""
    work: str
    """Folder of what is known about duplicates."""

    @property
    def name(self) -> str:
        """The folder of its results."""
        return self.shard.name


def decide(
    job: Job, steps: CurationSteps, out: Path, engine: Engine, track: Track = silent, work: Path | None = None
) -> dict[str, Any]:
    """Decide about every row of a measured job.

    Args:
        job: the measured job.
        steps: the steps with their thresholds; what is measured must be as it was when the job was.
        out: gets NAME/{train,validation,test}.jsonl and NAME/stats.json per data set, ledger.parquet, funnel.json and
            what_if.json.
        engine: what runs the shards.
        track: shows the progress.
        work: folder for unfinished work; it is removed in the end.

    Returns:
        `{"funnel": {name: [{"step", "rows", "dropped", ...}]}, "splits": {name: {split: rows kept}}}`.

    Raises:
        DataError: a data set, or its train split, has no rows left.
    """
    work = (work or out / ".work").absolute()
    tasks = [
        DecideTask(shard, first, str(job.folder.absolute()), steps.model_dump_json(), str(work))
        for shard, first in zip(job.shards, job.first_rows.tolist(), strict=False)
    ]
    with start_engine(engine) as crew:
        run = partial(run_tasks, crew, version=f"{VERSION} {job.digest}", track=track, secrets=_secrets(steps))
        run(judge_shard, tasks, work / "judged", title="decide")
        fails = [np.load(work / "judged" / task.name / "fails.npy") for task in tasks]
        resolve(job, steps, np.concatenate(fails) if fails else np.zeros(0, dtype=bool)).save(work / "duplicates")
        counts = run(write_shard, tasks, work / "written", title="write kept rows").results
    result = _summary(job, steps, counts)
    _join(job, work / "written", out, result["splits"])
    write_whole(out / "funnel.json", _json(result["funnel"]))
    write_whole(out / "what_if.json", _json(what_if(out / "ledger.parquet", steps)))
    shutil.rmtree(work)
    return result


def judge_shard(task: DecideTask, out: Path) -> dict[str, Any]:
    """Which rows of one shard fail a step that judges rows by themselves."""
    measures = _measures(Job.load(Path(task.job)), task)
    fails = np.zeros(measures.num_rows, dtype=bool)
    for step in _steps(task).values():
        fails |= np.array([bool(reasons) for reasons in step.reasons(measures)], dtype=bool)
    np.save(out / "fails.npy", fails, allow_pickle=False)
    return {}


def write_shard(task: DecideTask, out: Path) -> dict[str, Any]:
    """Write the kept rows of one shard and its part of the ledger, and count."""
    job, steps = Job.load(Path(task.job)), CurationSteps.model_validate_json(task.steps)
    measures = _measures(job, task)
    part = slice(task.first_row, task.first_row + measures.num_rows)
    duplicates = Duplicates.load(Path(task.work) / "duplicates", part)
    ids = np.load(job.folder / "ids.npy", mmap_mode="r")
    reasons = {name: step.reasons(measures) for name, step in _steps(task).items()}
    reasons |= duplicates.reasons(steps, ids)
    verdicts = Verdicts.of([name for name in judging(steps) if name in reasons], reasons, measures.num_rows)
    lines = job.file(task.shard, "rows.jsonl").read_bytes().split(b"\n")[:-1]
    kept, scrubbed = _kept(lines, verdicts.kept, measures, steps)
    (out / "kept.jsonl").write_bytes(b"".join(kept))
    write_ledger(out / "ledger.parquet", task.shard, measures, verdicts, duplicates, ids)
    return {
        "kept": len(kept),
        "failing": dict(Counter(name for each in verdicts.failed for name in each)),
        "dropped": dict(Counter(each[0] for each in verdicts.failed if each)),
        "scrubbed": scrubbed,
    }


def _secrets(steps: CurationSteps) -> dict[str, str]:
    """The key of the pseudonyms: workers on other machines do not have this one's environment."""
    if steps.pii is None or steps.pii.action != "pseudonym":
        return {}
    from data_prep.curation.pii.key import VARIABLE, read_key

    return {VARIABLE: read_key().decode("utf-8", "surrogateescape")}


def _kept(lines: Sequence[bytes], kept: Sequence[bool], measures: Any, steps: CurationSteps) -> tuple[list[bytes], int]:
    """The lines of the kept rows, without personal data where that is asked for; and how many rows that changed."""
    chosen = [index for index, keep in enumerate(kept) if keep]
    if steps.pii is None or steps.pii.action == "drop":
        return [lines[index] + b"\n" for index in chosen], 0
    from data_prep.curation.pii.step import make_scrub

    scrub, found, changed = make_scrub(steps.pii), measures["pii_spans"].to_pylist(), 0
    written: list[bytes] = []
    for index in chosen:
        line = lines[index]
        if found[index]:
            row: Row = json.loads(line)
            clean = scrub(row, found[index])
            changed += clean != row
            line = json.dumps(clean, ensure_ascii=False).encode()
        written.append(line + b"\n")
    return written, changed


def _measures(job: Job, task: DecideTask) -> "pa.Table":
    """The measures of a shard, without what all training rows together show to be boilerplate."""
    measures = job.measures(task.shard)
    step = _steps(task).get("decontamination")
    if step is None:
        return measures
    from data_prep.curation.decontamination.counts import Counts
    from data_prep.curation.decontamination.step import DecontaminationStep

    assert isinstance(step, DecontaminationStep), "made under this name"
    return step.settle(measures, Counts.load(job.folder / COUNTS))


def _steps(task: DecideTask) -> dict[str, Step]:
    return _made(task.steps, task.job)


@lru_cache(maxsize=4)
def _made(steps: str, job: str) -> dict[str, Step]:
    return make_steps(CurationSteps.model_validate_json(steps), Path(job) / INDEX)


def _summary(job: Job, steps: CurationSteps, counts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    funnel, splits = {}, {}
    for dataset in job.datasets:
        mine = [(shard, count) for shard, count in zip(job.shards, counts, strict=True) if shard.dataset == dataset]
        splits[dataset] = {split: sum(c["kept"] for s, c in mine if s.split == split) for split in SPLITS}
        funnel[dataset] = funnel_of(job, dataset, steps, [count for _, count in mine])
        entered = {shard.split for shard, _ in mine}
        check_left(dataset, entered, splits[dataset], funnel[dataset])
    return {"funnel": funnel, "splits": splits}


def _join(job: Job, work: Path, out: Path, splits: dict[str, dict[str, int]]) -> None:
    for dataset, stats in job.stats.items():
        for split in SPLITS:
            parts = (each for each in job.shards if each.dataset == dataset and each.split == split)
            _append((work / part.name / "kept.jsonl" for part in parts), out / dataset / f"{split}.jsonl")
        kept = splits[dataset]
        write_stats(out / dataset, {**stats, "rows": sum(kept.values()), "splits": kept})
    join_ledgers([work / shard.name / "ledger.parquet" for shard in job.shards], out / "ledger.parquet")


def _append(parts: Iterable[Path], path: Path) -> None:
    """One file of several, under a temporary name until it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)
    temporary.replace(path)


def _json(content: Any) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
