"""The funnel: how many rows each step took from a data set, and the alarm when it took too many."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.job import Job
from data_prep.curation.registry import judging, step_names
from data_prep.errors import DataError

Funnel = list[dict[str, Any]]


def funnel_of(job: Job, dataset: str, steps: CurationSteps, counts: Sequence[dict[str, Any]]) -> Funnel:
    """The funnel of one data set.

    `rows` is what is left after a step, `dropped` what it was the first to drop, `failing` every row that it speaks
    against, `changed` how many rows it changed.
    """
    rows = job.rows_of(dataset)
    funnel = _intake(job.stats[dataset], rows)
    dropped, failing = (
        sum((Counter(each[kind]) for each in counts), Counter[str]()) for kind in ("dropped", "failing")
    )
    judged, left = judging(steps), rows
    for name in step_names(steps):
        for step in [each for each in judged if each.partition(".")[0] == name]:
            left -= dropped[step]
            funnel.append({"step": step, "rows": left, "dropped": dropped[step], "failing": failing[step]})
        if name not in {each.partition(".")[0] for each in judged}:
            changed = job.changes.get(dataset, {}).get(name, {}).get("rows", 0)
            funnel.append({"step": name, "rows": left, "dropped": 0, "changed": changed})
    if steps.pii and steps.pii.action != "drop":
        funnel[-1]["changed"] = sum(each["scrubbed"] for each in counts)
    _sound_alarm(funnel, rows, steps)
    return funnel


def check_left(dataset: str, entered: set[str], kept: dict[str, int], funnel: Funnel) -> None:
    """Refuse a data set that has nothing left to train on, and name the step that took most."""
    if any(kept.values()) and (kept["train"] or "train" not in entered):
        return
    what = "no training row" if any(kept.values()) else "nothing"
    worst = max(funnel, key=lambda entry: entry["dropped"])["step"]
    drops = ", ".join(f"{entry['step']} dropped {entry['dropped']}" for entry in funnel if entry["dropped"])
    counted = f"{funnel[0]['rows']} rows read; {drops or 'none dropped'}"
    raise DataError(f"data.{dataset}: {what} is left after filtering ({counted}); relax stages.filter.steps.{worst}")


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


def _sound_alarm(funnel: Funnel, rows: int, steps: CurationSteps) -> None:
    """Note in the funnel that near-deduplication took more of the data set than it should."""
    allowed = steps.near_dedup.alarm_share * rows if steps.near_dedup else rows
    for entry in funnel:
        if entry["step"] == "near_dedup" and entry["failing"] > allowed:
            entry["alarm"] = f"near_dedup speaks against {entry['failing']} of {rows} rows; look at the ledger"
