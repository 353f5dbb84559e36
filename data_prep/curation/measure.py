"""Measure all rows of a job: edit them, let every step measure them, and find what repeats what.

Nothing is decided here, and no threshold is looked at: `decide` does that, as often as one likes.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.curation.config import CurationSteps
from data_prep.curation.duplicates import find_duplicates
from data_prep.curation.job import SHARDS, Job, Shard, cut, stats_of
from data_prep.curation.registry import identity_of, make_editors, make_steps
from data_prep.curation.step import Edit, Step
from data_prep.engines.config import Engine
from data_prep.engines.engine import Finished, run_tasks, start_engine
from data_prep.progress import Track, silent
from data_prep.rows import Row, parts_of, read_range, write_whole
from data_prep.strict import measured_part

VERSION = "1"
"""Raised when the files of a shard change, so that shards of an older program are not taken for finished."""

STEPS = "steps.json"
INDEX = "contamination.index"
COUNTS = "contamination.npz"

Run = Callable[..., Finished]


@dataclass(frozen=True)
class MeasureTask:
    """One shard to measure."""

    shard: Shard
    job: str
    """Folder of the job; its steps.json holds the steps."""
    boilerplate: str | None = None
    """File of the repeated parts to remove."""
    index: str | None = None
    """The decontamination index."""

    @property
    def name(self) -> str:
        """The folder of its results."""
        return self.shard.name


def measure(
    folders: dict[str, Path],
    steps: CurationSteps,
    out: Path,
    engine: Engine,
    against: dict[str, Path] | None = None,
    track: Track = silent,
) -> Job:
    """Measure the data sets of `folders` (name → dataset folder) into the job folder `out`.

    Args:
        folders: the data sets.
        steps: the steps; thresholds are not looked at.
        out: gets the job; a job that was killed goes on at the first unfinished shard.
        engine: what runs the shards.
        against: the evaluation's data sets (name → dataset folder) that training rows must not repeat.
        track: shows the progress.
    """
    out = out.absolute()
    write_whole(out / STEPS, steps.model_dump_json().encode())
    decided_by = {"steps": measured_part(steps), "outside": identity_of(steps), "against": _contents(against or {})}
    identity = json.dumps(decided_by, sort_keys=True, ensure_ascii=False)
    index = _contamination_index(steps, against or {}, out)
    shards = cut(folders)
    tasks = [MeasureTask(shard, str(out), index=index) for shard in shards]
    with start_engine(engine) as crew:
        run = partial(run_tasks, crew, version=f"{VERSION} {identity}", track=track)
        if steps.repeated_parts:
            boilerplate = _boilerplate(run, tasks, steps, out)
            tasks = [replace(task, boilerplate=boilerplate) for task in tasks]
        done = run(measure_shard, tasks, out / SHARDS, title="measure rows").results
    job = Job(out, shards, [each["rows"] for each in done], stats_of(folders), _changes(shards, done), identity)
    job.save()
    _save_ids(job)
    if steps.decontamination:
        _count_contamination(job)
    find_duplicates(job, steps, track)
    return job


def measure_shard(task: MeasureTask, out: Path) -> dict[str, Any]:
    """Edit and measure one shard; says how many rows it has, and what was changed in them."""
    steps = read_steps(Path(task.job))
    judges, editors = _prepared(steps.model_dump_json(), task.boilerplate, task.index)
    changes: list[dict[str, dict[str, int]]] = []
    rows: list[Row] = []
    for row in _read(task.shard):
        edited, changed = _edit(row, editors)
        rows.append(edited)
        changes.append(changed)
    _write_rows(rows, out)
    _write_measures(rows, changes, steps, judges, out)
    _write_keys(rows, steps, out)
    counted = {name: Counter[str]() for name in editors}
    for changed in changes:
        for name, kinds in changed.items():
            counted[name].update({"rows": 1, **kinds})
    return {"rows": len(rows), "changes": {name: dict(sorted(kinds.items())) for name, kinds in counted.items()}}


def count_shard_parts(task: MeasureTask, out: Path) -> dict[str, Any]:
    """Count the paragraphs or lines of one shard, as they are before repeated ones are removed."""
    from data_prep.curation.repeated_parts.count import count_shard

    steps = read_steps(Path(task.job))
    assert steps.repeated_parts is not None, "only called with this step on"
    editors = make_editors(steps, None)
    count_shard([_edit(row, editors)[0] for row in _read(task.shard)], steps.repeated_parts).save(out / "parts.npy")
    return {}


def read_steps(job: Path) -> CurationSteps:
    """The steps that a job was measured with."""
    return CurationSteps.model_validate_json((job / STEPS).read_text(encoding="utf-8"))


def _read(shard: Shard) -> list[Row]:
    return read_range(Path(shard.folder), shard.split, shard.start, shard.end)


@lru_cache(maxsize=4)
def _prepared(steps: str, boilerplate: str | None, index: str | None) -> tuple[dict[str, Step], dict[str, Edit]]:
    """Steps and editors, made once per process: their models are costly."""
    config = CurationSteps.model_validate_json(steps)
    made = make_steps(config, Path(index) if index else None)
    return made, make_editors(config, Path(boilerplate) if boilerplate else None)


def _edit(row: Row, editors: dict[str, Edit]) -> tuple[Row, dict[str, dict[str, int]]]:
    changes: dict[str, dict[str, int]] = {}
    for name, editor in editors.items():
        row, kinds = editor.edit(row)
        if kinds:
            changes[name] = kinds
    return row, changes


def _write_rows(rows: list[Row], out: Path) -> None:
    lines = [(json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows]
    write_whole(out / "rows.jsonl", b"".join(lines))
    write_array(np.cumsum([0, *map(len, lines)]), out / "lines.npy")


def _write_measures(
    rows: list[Row], changes: list[dict[str, dict[str, int]]], steps: CurationSteps, judges: dict[str, Step], out: Path
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    near = steps.near_dedup
    texts = ["\n".join(parts_of(row).values()) for row in rows]
    columns: dict[str, Any] = {
        "id": pa.array([row["id"] for row in rows], pa.string()),
        "words": pa.array([len(text.split()) for text in texts], pa.int64()),
        "characters": pa.array([len(text) for text in texts], pa.int64()),
        "changes": pa.array([_flat(changed) for changed in changes], pa.map_(pa.string(), pa.int64())),
    }
    if near and near.earliest_by:
        earliest = [(row.get("meta") or {}).get(near.earliest_by) for row in rows]
        columns["near_dedup_earliest_by"] = pa.array([None if each is None else str(each) for each in earliest])
    for step in judges.values():
        measured = _measured(step, rows, out)
        columns |= {name: pa.array(measured[name], kind) for name, kind in step.columns().items()}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    write_whole(out / "measures.parquet", buffer.getvalue())


def _measured(step: Step, rows: list[Row], out: Path) -> Mapping[str, Sequence[Any]]:
    from data_prep.curation.decontamination.step import DecontaminationStep

    if not isinstance(step, DecontaminationStep):
        return step.measure(rows)
    measured, counts = step.measure_and_count(rows)
    counts.save(out / COUNTS)
    return measured


def _flat(changed: dict[str, dict[str, int]]) -> list[tuple[str, int]]:
    return [(f"{step}.{kind}", count) for step, kinds in changed.items() for kind, count in kinds.items()]


def _write_keys(rows: list[Row], steps: CurationSteps, out: Path) -> None:
    if steps.exact_dedup:
        from data_prep.curation.exact_dedup.keys import keys_of
        from data_prep.curation.exact_dedup.resolve import save_keys

        save_keys(keys_of(rows, steps.exact_dedup), out / "keys.npy")
    if steps.near_dedup:
        from data_prep.curation.near_dedup.compared import compared_text
        from data_prep.curation.near_dedup.shingles import sign

        near = steps.near_dedup
        texts = [compared_text(row, near.on) for row in rows]
        sign(texts, near.words, near.permutations, near.seed).save(out / "signatures.npy")


def write_array(array: Any, path: Path) -> None:
    """Write one array as .npy, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_whole(path, buffer.getvalue())


def _boilerplate(run: Run, tasks: list[MeasureTask], steps: CurationSteps, out: Path) -> str:
    """The parts that many documents have, over all shards."""
    from data_prep.curation.repeated_parts.count import merge

    assert steps.repeated_parts is not None, "only called with this step on"
    run(count_shard_parts, tasks, out / "parts", title="count repeated parts")
    path = out / "boilerplate.npy"
    merge([out / "parts" / task.name / "parts.npy" for task in tasks], steps.repeated_parts).save(path)
    return str(path)


def _contamination_index(steps: CurationSteps, against: dict[str, Path], out: Path) -> str | None:
    if not steps.decontamination:
        return None
    from data_prep.curation.decontamination.index import build_index

    build_index(against, steps.decontamination.model_copy(update={"against": None}), out / INDEX)
    return str(out / INDEX)


def _count_contamination(job: Job) -> None:
    """How many training rows have the n-grams of the evaluation: what shows boilerplate."""
    from data_prep.curation.decontamination.counts import Counts, merge

    merge(Counts.load(job.file(shard, COUNTS)) for shard in job.shards).save(job.folder / COUNTS)


def _contents(folders: dict[str, Path]) -> dict[str, str]:
    return {name: "".join(shard.content for shard in cut({name: folder})) for name, folder in folders.items()}


def _changes(shards: list[Shard], done: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
    counted: dict[str, dict[str, Counter[str]]] = {}
    for shard, result in zip(shards, done, strict=True):
        for step, kinds in result["changes"].items():
            counted.setdefault(shard.dataset, {}).setdefault(step, Counter()).update(kinds)
    return {
        dataset: {step: dict(sorted(kinds.items())) for step, kinds in of_steps.items()}
        for dataset, of_steps in counted.items()
    }


def _save_ids(job: Job) -> None:
    """All ids, to name the row that a duplicate repeats."""
    parts = [np.array([identity.encode() for identity in job.column("id", [shard])]) for shard in job.shards]
    write_array(np.concatenate(parts) if parts else np.array([], dtype="S1"), job.folder / "ids.npy")
