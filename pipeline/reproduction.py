"""Two runs of one configuration side by side: their environments, numbers and files, and what may differ."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts import read_json
from pipeline.recorded import RecordedRun

RELATIVE = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 2e-2, "auto": 2e-2}
"""Relative tolerance of likelihoods and losses on another machine or with other versions, by number format."""
INTERVAL_SHARE = 0.5
"""Scores of generated text may differ by this share of their interval's width: one token that flips changes a whole
answer, and less than the sampling noise is nothing that a verdict rests on."""
_NOT_COMPARED = frozenset(
    {"done.json", "metrics.json", "stage.yaml", "inputs.json", "job.json", "README.md", "adapter_config.json"}
)
"""Files of an artifact that hold times and paths, or lists whose order means nothing."""
_NOTED = frozenset({"platform", "memory_bytes", "git", "cores", "determinism"})
"""Facts that are told but do not end bitwise equality."""


@dataclass(frozen=True)
class Fact:
    """One property of the environment, then and now."""

    name: str
    then: str
    now: str
    counts: bool
    """Whether a change of it can change a number."""


def environment_facts(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Fact]:
    """Everything recorded about the environment beside what is here now; packages one by one."""
    flat_then, flat_now = _flat(then), _flat(now)
    names = list(dict.fromkeys([*flat_then, *flat_now]))
    return [
        Fact(
            name,
            _text(flat_then.get(name)),
            _text(flat_now.get(name)),
            counts=name.split(".")[0] not in _NOTED and name in flat_then,
        )
        for name in names
    ]


def is_same(facts: list[Fact]) -> bool:
    """Whether nothing that counts differs."""
    return all(fact.then == fact.now for fact in facts if fact.counts)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _text(value: Any) -> str:
    return "–" if value in (None, [], "") else str(value)


@dataclass(frozen=True)
class Difference:
    """One number, word or file of both runs; `allowed` is the largest difference that counts as reproduced."""

    name: str
    then: Any
    now: Any
    allowed: float = 0.0

    @property
    def is_allowed(self) -> bool:
        """Whether the two agree well enough."""
        if self.then == self.now:
            return True
        both = (self.then, self.now)
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in both):
            return self.allowed == math.inf
        return abs(self.then - self.now) <= self.allowed

    @property
    def then_text(self) -> str:
        """The recorded value."""
        return _digits(self.then)

    @property
    def now_text(self) -> str:
        """The new value."""
        return _digits(self.now)

    @property
    def allowed_text(self) -> str:
        """The tolerance in words."""
        return "bitwise equal" if self.allowed == 0 else f"± {self.allowed:.3g}"


def _digits(value: Any) -> str:
    return "–" if value is None else repr(value) if isinstance(value, float) else str(value)


def compared(before: RecordedRun, after: RecordedRun, is_exact: bool) -> Iterator[Difference]:
    """Every metric, loss and data fingerprint of the two runs; where they must be exact, every file too.

    Args:
        is_exact: the same machine, versions and float32 on CPU: all tolerances are 0.
    """
    then, now = before.report(), after.report()
    relative = 0.0 if is_exact else RELATIVE.get(before.manifest["config"]["model"].get("dtype", ""), 2e-2)
    yield from _evaluation(then, now, relative)
    yield from _training(then, now, relative)
    yield from _files(before, after, is_exact)


def _evaluation(then: Mapping[str, Any], now: Mapping[str, Any], relative: float) -> Iterator[Difference]:
    """Scores of each model, then each comparison's difference, interval and verdict."""
    old, new = (each.get("evaluation") or {} for each in (then, now))
    widths = _widths(old)
    for model, tasks in (old.get("models") or {}).items():
        for task, metrics in tasks.items():
            for metric, value in metrics.items():
                other = new.get("models", {}).get(model, {}).get(task, {}).get(metric)
                allowed = _allowed(value, widths.get((task, metric)), relative)
                yield Difference(f"{model} {task} {metric}", value, other, allowed)
    for name, tasks in (old.get("comparisons") or {}).items():
        for task, metrics in tasks.items():
            for metric, cell in metrics.items():
                other = new.get("comparisons", {}).get(name, {}).get(task, {}).get(metric, {})
                yield from _cells(f"{name} {task} {metric}", cell, other, widths.get((task, metric)), relative)


def _cells(
    name: str, cell: Mapping[str, Any], other: Mapping[str, Any], width: float | None, relative: float
) -> Iterator[Difference]:
    for part in ("difference", "low", "high"):
        allowed = _allowed(cell.get("base"), width, relative)
        yield Difference(f"{name} {part}", cell.get(part), other.get(part), allowed)
    yield Difference(f"{name} n", cell.get("n"), other.get("n"))
    yield Difference(f"{name} verdict", cell.get("verdict"), other.get("verdict"))


def _widths(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """(task, metric) → width of its interval, the widest of all comparisons."""
    found: dict[tuple[str, str], float] = {}
    for tasks in (evaluation.get("comparisons") or {}).values():
        for task, metrics in tasks.items():
            for metric, cell in metrics.items():
                if cell.get("low") is not None and cell.get("high") is not None:
                    width = cell["high"] - cell["low"]
                    found[task, metric] = max(found.get((task, metric), 0.0), width)
    return found


def _allowed(value: Any, width: float | None, relative: float) -> float:
    if not relative or not isinstance(value, int | float):
        return 0.0
    return max(relative * abs(value), INTERVAL_SHARE * (width or 0.0))


def _training(then: Mapping[str, Any], now: Mapping[str, Any], relative: float) -> Iterator[Difference]:
    """Train and validation losses step by step."""
    for stage, training in (then.get("training") or {}).items():
        other = (now.get("training") or {}).get(stage) or {}
        for part in ("steps", "validation"):
            later = {point["step"]: point.get("loss") for point in other.get(part) or []}
            for point in training.get(part) or []:
                name = f"{stage} {part.removesuffix('s')} {point['step']} loss"
                value = point.get("loss")
                yield Difference(name, value, later.get(point["step"]), _allowed(value, None, relative))


def _files(before: RecordedRun, after: RecordedRun, is_exact: bool) -> Iterator[Difference]:
    """The fingerprint of each node, and where bits must agree the hash of each file."""
    later = {node.name: node for node in after.nodes}
    for node in before.nodes:
        other = later.get(node.name)
        yield Difference(f"{node.name} fingerprint", node.fingerprint, other.fingerprint if other else None, math.inf)
        if is_exact and other is not None and (node.folder / "done.json").exists():
            old, new = (read_json(each.folder / "done.json")["files"] for each in (node, other))
            for file in sorted(set(old) | set(new)):
                if file.rsplit("/", 1)[-1] not in _NOT_COMPARED:
                    yield Difference(f"{node.name} {file}", _short(old.get(file)), _short(new.get(file)))


def _short(digest: str | None) -> str | None:
    return f"sha256 {digest[:12]}" if digest else None
