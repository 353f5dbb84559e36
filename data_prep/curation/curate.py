"""Filter data sets: judge every row, write what is kept, the ledger and the funnel."""

import json
from pathlib import Path
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.ledger import dropped_by, ledger_lines, write_ledger
from data_prep.curation.steps import Judgement, judge, step_names
from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import SPLITS, read_rows, read_stats, write_rows, write_stats, write_whole

Funnel = list[dict[str, Any]]


def curate(folders: dict[str, Path], steps: CurationSteps, out: Path, track: Track = silent) -> dict[str, Any]:
    """Filter the data sets of `folders` (name → dataset folder, as `load` writes it).

    Args:
        folders: the data sets; each is filtered by itself.
        steps: the steps and their limits.
        out: gets NAME/{train,validation,test}.jsonl and NAME/stats.json per data set, ledger.parquet and funnel.json.
        track: shows the progress.

    Returns:
        `{"funnel": {name: [{"step", "rows", "dropped", ...}]}, "splits": {name: {split: rows kept}}}`; funnel.json
        holds the first. `rows` is what is left after a step, `dropped` what it was the first to drop, `failing` (of
        the filter steps) every row that it speaks against, `changed` (of the lead) how many rows it shortened.

    Raises:
        DataError: a data set, or its train split, has no rows left.
    """
    names, funnel, kept_splits, ledger = step_names(steps), {}, {}, []
    for name, folder in folders.items():
        rows = [(split, row) for split in SPLITS for row in read_rows(folder, split)]
        judged = judge(rows, steps, f"{name}: filter", track)
        stats = read_stats(folder)
        funnel[name] = _intake(stats, len(judged)) + _funnel(judged, names)
        kept = {split: [each.row for each in judged if each.split == split and not each.reasons] for split in SPLITS}
        _sound_alarm(funnel[name], len(judged), steps)
        _check_left(name, judged, funnel[name])
        for split, part in kept.items():
            write_rows(out / name, split, part)
        kept_splits[name] = {split: len(part) for split, part in kept.items()}
        write_stats(out / name, {**stats, "rows": sum(kept_splits[name].values()), "splits": kept_splits[name]})
        ledger += ledger_lines(name, judged, names)
    write_ledger(out / "ledger.parquet", ledger)
    write_whole(out / "funnel.json", (json.dumps(funnel, ensure_ascii=False, indent=2) + "\n").encode())
    return {"funnel": funnel, "splits": kept_splits}


def _intake(stats: dict[str, Any], rows: int) -> Funnel:
    """What happened before the filter, as `load` noted it; a folder without notes begins with its rows."""
    left = stats.get("read", rows)
    funnel: Funnel = [{"step": "read", "rows": left, "dropped": 0}]
    drops = {"broken": stats.get("broken", 0), "limit": stats.get("limited", 0)}
    # A folder that was filtered before has fewer rows than were read.
    drops["earlier filters"] = left - sum(drops.values()) - rows
    for step, dropped in drops.items():
        if dropped:
            left -= dropped
            funnel.append({"step": step, "rows": left, "dropped": dropped})
    if stats.get("lead"):
        title = f"lead ≤ {stats['lead']['max_tokens']} tokens"
        funnel.append({"step": title, "rows": left, "dropped": 0, "changed": stats["shortened"]})
    return funnel


def _funnel(judged: list[Judgement], names: list[str]) -> Funnel:
    left, funnel = len(judged), []
    for step in names:
        dropped = sum(dropped_by(each, names) == step for each in judged)
        left -= dropped
        failing = sum(step in each.reasons for each in judged)
        funnel.append({"step": step, "rows": left, "dropped": dropped, "failing": failing})
    return funnel


def _sound_alarm(funnel: Funnel, rows: int, steps: CurationSteps) -> None:
    """Note in the funnel that near-deduplication took more of the data set than it should."""
    allowed = steps.near_dedup.alarm_share * rows if steps.near_dedup else rows
    for entry in funnel:
        if entry["step"] == "near_dedup" and entry["failing"] > allowed:
            entry["alarm"] = f"near_dedup speaks against {entry['failing']} of {rows} rows; look at the ledger"


def _check_left(name: str, judged: list[Judgement], funnel: Funnel) -> None:
    before = {each.split for each in judged}
    after = {each.split for each in judged if not each.reasons}
    if after and ("train" in after or "train" not in before):
        return
    what = "no training row" if after else "nothing"
    worst = max(funnel, key=lambda entry: entry["dropped"])["step"]
    drops = ", ".join(f"{entry['step']} dropped {entry['dropped']}" for entry in funnel if entry["dropped"])
    counted = f"{funnel[0]['rows']} rows read; {drops or 'none dropped'}"
    raise DataError(f"data.{name}: {what} is left after filtering ({counted}); relax stages.filter.steps.{worst}")
