"""The predictions of one model: a folder of JSONL files that hold all a comparison needs, without the model.

    <dataset>.perplexity.jsonl   {"id", "nll", "tokens", "words", "bytes"}
    <dataset>.generation.jsonl   {"id", "prompt", "output", "reference", "finish_reason", "tokens"}; where asked for
                                 also "token_ids" and "log_probabilities", with the stop token
    <dataset>.choice.jsonl       multiple choice and classification, see `eval.choice.score`; so bbq and groups, with
                                 what `eval.fairness` adds
    <dataset>.cloze.jsonl        see `eval.choice.cloze`
    <dataset>.pairs.jsonl        see `eval.fairness.likelihoods`
    <dataset>.reasoning.jsonl    see `eval.reasoning.score`
    policies.json                data set → how it was measured: an entry for each measure, "template_sha256", "rouge",
                                 "bleu", "chrf" and the "keys" that say what the files were made from

A file that is being made is called `<name>.partial` and grows as predictions are finished (`eval.shares`).
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Any, Literal, TypeVar

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import write_whole
from eval.shares import KeptRows, ShareKept, line_of, taken

Item = TypeVar("Item")
Prediction = dict[str, Any]
Measure = Literal["perplexity", "generation", "choice", "cloze", "pairs", "bbq", "groups", "reasoning"]

MEASURES: tuple[Measure, ...] = ("perplexity", "generation", "choice", "cloze", "pairs", "bbq", "groups", "reasoning")
POLICIES = "policies.json"


def predictions_path(folder: Path, dataset: str, measure: Measure) -> Path:
    """Where the predictions of one data set lie."""
    return folder / f"{dataset}.{measure}.jsonl"


def read_predictions(folder: Path, dataset: str, measure: Measure) -> list[Prediction]:
    """The rows of a finished file; DataError when it is missing or damaged."""
    path = predictions_path(folder, dataset, measure)
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the prediction of {dataset} again") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); delete it and run the prediction again") from error


def write_predictions(folder: Path, dataset: str, measure: Measure, rows: Sequence[Prediction]) -> None:
    """Write a finished file, whole or not at all."""
    write_whole(predictions_path(folder, dataset, measure), b"".join(map(line_of, rows)))


def copy_without(folder: Path, dataset: str, ids: set[str], out: Path) -> int:
    """Copy the predictions of one data set into `out` without the rows of these ids; returns how many rows there were.

    Twins of a row (`<id>/female`, `<id>/male`) go with it.

    Raises:
        DataError: no row is left.
    """
    rows_before, left_over = 0, 0
    for measure in MEASURES:
        if not predictions_path(folder, dataset, measure).exists():
            continue
        rows = read_predictions(folder, dataset, measure)
        left = [row for row in rows if row["id"] not in ids and row["id"].rpartition("/")[0] not in ids]
        rows_before, left_over = max(rows_before, len(rows)), left_over + len(left)
        if left:
            write_predictions(out, dataset, measure, left)
    if not left_over:
        advice = "another evaluation is needed, or stages.evaluate.overlap=null to score it all the same"
        raise DataError(f"{dataset}: all {rows_before} items stand in the training data; {advice}")
    write_whole(out / POLICIES, json.dumps({dataset: read_policies(folder)[dataset]}).encode())
    return rows_before


def read_policies(folder: Path) -> dict[str, dict[str, Any]]:
    """How each data set was measured; {} before the first one is."""
    path = folder / POLICIES
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); delete the folder and run the prediction again") from error


def note_policy(folder: Path, dataset: str, entries: dict[str, Any], measure: Measure, key: str) -> None:
    """Add to what is known about a data set; the key says that the file of `measure` is finished and from what."""
    policies = read_policies(folder)
    known = policies.get(dataset, {})
    policies[dataset] = {**known, **entries, "keys": {**known.get("keys", {}), measure: key}}
    text = json.dumps(policies, ensure_ascii=False, indent=2, sort_keys=True)
    write_whole(folder / POLICIES, f"{text}\n".encode())


def is_finished(folder: Path, dataset: str, measure: Measure, key: str) -> bool:
    """Whether the file of `measure` is there and was made from exactly `key`."""
    known = read_policies(folder).get(dataset, {}).get("keys", {}).get(measure)
    return known == key and predictions_path(folder, dataset, measure).exists()


def key_of(*parts: Any) -> str:
    """A hash of everything that predictions depend on: model, settings, rows."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def predict_resumably(
    path: Path,
    key: str,
    batches: Sequence[Sequence[tuple[str, Item]]],
    work: Callable[[list[Item]], list[Prediction]],
    track: Track = silent,
    title: str = "predicting",
) -> list[Prediction]:
    """Run `work` on batches of (id, item) and keep each finished batch in `path`, so that a killed run goes on.

    A torn line, an incomplete batch and a file made from another key are made again. Batches never change, also not
    with the number of shares, so that neither changes a byte. Returns the rows in batch order; the caller writes the
    finished file and removes `path`. Raises ShareKept where this process had but a share (`eval.shares`).
    """
    share = taken()
    with contextlib.closing(KeptRows(path, key)) as kept:
        mine = batches if share is None else share.of(batches)
        left = [batch for batch in mine if any(name not in kept.rows for name, _ in batch)]
        for batch in track(left, title, total=len(left)):
            kept.add(work([item for _, item in batch]))
    if share is not None:
        raise ShareKept
    return [kept.rows[name] for batch in batches for name, _ in batch]


def predict_as_finished(
    path: Path,
    key: str,
    ids: Sequence[str],
    work: Callable[[Set[str]], Iterable[Prediction]],
    track: Track = silent,
    title: str = "predicting",
) -> list[Prediction]:
    """Keep each row that `work` gives in `path` at once, so that a killed run goes on; returns them in `ids`' order.

    `work` is given the ids that are still to be predicted, and gives their rows in any order. A torn line and a file
    made from another key are made again. The caller writes the finished file and removes `path`. Raises ShareKept
    where this process had but a share (`eval.shares`).
    """
    share = taken()
    with contextlib.closing(KeptRows(path, key)) as kept:
        left = set(ids if share is None else share.of(ids)) - kept.rows.keys()
        for row in track(work(left) if left else (), title, total=len(left)):
            kept.add([row])
    if share is not None:
        raise ShareKept
    return [kept.rows[each] for each in ids]
