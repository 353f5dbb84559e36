"""What was found of what was planted: recall and precision with Wilson's intervals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import chosen
from data_prep.curation.pii.spans import Span
from data_prep.curation.self_test.near_copies import exact_jaccard
from data_prep.curation.self_test.truth import Planted, Truth
from data_prep.errors import DataError

Line = Mapping[str, Any]
"""One line of the ledger: `reasons`, `duplicate_of`, `pii_spans` are read."""

Z = 1.959964
"""Of a two-sided interval of 95 %."""


def wilson(found: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % (Wilson 1927); (0, 1) when nothing was tried."""
    if not total:
        return 0.0, 1.0
    share, factor = found / total, 1 + Z * Z / total
    middle = (share + Z * Z / (2 * total)) / factor
    half = Z / factor * math.sqrt(share * (1 - share) / total + Z * Z / (4 * total * total))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def score(planted: Planted, ledger: Mapping[str, Line], steps: CurationSteps) -> dict[str, Any]:
    """Per step and kind: planted, found, wrongly found, recall and precision with intervals.

    Args:
        planted: what was planted.
        ledger: id → line of the ledger, of every planted row.
        steps: the steps that ran.

    Raises:
        DataError: the ledger lacks a planted row.
    """
    report: dict[str, Any] = {}
    for truth in planted.truths:
        for identity in (truth.row, truth.base or truth.row):
            if identity not in ledger:
                raise DataError(
                    f"self_test: the ledger has no line of the planted row {identity}; run all rows it was given"
                )
    for step in ("near_dedup", "pii", "decontamination"):
        mine = [truth for truth in planted.truths if truth.step == step]
        if step in planted.not_tested:
            report[step] = {"not_tested": planted.not_tested[step]}
        elif mine:
            found = {truth.row: _is_found(truth, ledger, steps) for truth in mine}
            report[step] = _table(mine, found)
        elif getattr(steps, step) is not None:
            report[step] = {"not_tested": "not tested: nothing could be planted into these rows"}
    if steps.near_dedup and "recall" in report.get("near_dedup", {}):
        report["near_dedup"]["below_threshold"] = _unjustified(planted, ledger, steps)
    return report


def _table(truths: list[Truth], found: Mapping[str, bool]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for kind in sorted({truth.kind for truth in truths}):
        kinds[kind] = _rates([truth for truth in truths if truth.kind == kind], found)
    return _rates(truths, found) | {"kinds": kinds}


def _rates(truths: Sequence[Truth], found: Mapping[str, bool]) -> dict[str, Any]:
    genuine = [truth for truth in truths if truth.expected]
    others = [truth for truth in truths if not truth.expected]
    right, wrong = (sum(found[truth.row] for truth in part) for part in (genuine, others))
    rates: dict[str, Any] = {
        "planted": len(genuine),
        "found": right,
        "look_alikes": len(others),
        "wrongly_found": wrong,
    }
    if genuine:
        rates["recall"] = _share(right, len(genuine))
    if others:
        rates["spared"] = _share(len(others) - wrong, len(others))
    if genuine and others and right + wrong:
        rates["precision"] = _share(right, right + wrong)
    return rates


def _share(part: int, whole: int) -> dict[str, float]:
    low, high = wilson(part, whole)
    return {"value": round(part / whole, 4), "low": round(low, 4), "high": round(high, 4)}


def _is_found(truth: Truth, ledger: Mapping[str, Line], steps: CurationSteps) -> bool:
    line = ledger[truth.row]
    if truth.step == "near_dedup":
        pair = {truth.row: line, truth.base: ledger[truth.base]}
        if not truth.expected:
            return any(each["duplicate_of"] in pair and _fails(each, ["near_dedup"]) for each in pair.values())
        return any(_fails(each, ["near_dedup", "exact_dedup"]) for each in pair.values())
    if truth.step == "decontamination":
        return _fails(line, ["decontamination"])
    assert steps.pii is not None, "personal data is only planted where it is looked for"
    spans = _counted(line.get("pii_spans") or [], truth.part, steps.pii)
    met = [span for span in spans if span.start < truth.end and truth.start < span.end]
    return any(span.kind == truth.kind for span in met) if truth.expected else bool(met)


def _fails(line: Line, steps: Iterable[str]) -> bool:
    return any(reason.startswith(f"{step}:") for reason in line["reasons"] for step in steps)


def _counted(spans: Iterable[Mapping[str, Any]], part: str, config: Pii) -> list[Span]:
    here = [each for each in spans if each["part"] == part]
    return chosen(
        (Span(each["start"], each["end"], each["kind"], each["score"], each["rule"]) for each in here), config
    )


def _unjustified(planted: Planted, ledger: Mapping[str, Line], steps: CurationSteps) -> dict[str, int]:
    """Of the removals among the planted rows and their originals, those whose own witness is not similar enough."""
    from data_prep.curation.near_dedup.compared import compared_text

    config = steps.near_dedup
    assert config is not None, "only called with this step on"
    texts = {row["id"]: compared_text(row, config.on) for row in planted.rows}
    removed = [
        (identity, line["duplicate_of"])
        for identity, line in sorted(ledger.items())
        if identity in texts and _fails(line, ["near_dedup"]) and line["duplicate_of"] in texts
    ]
    if config.containment is not None:
        return {"removed": len(removed)}
    below = sum(exact_jaccard(texts[a], texts[b], config.words) < config.threshold for a, b in removed)
    return {"removed": len(removed), "below_threshold": below}
