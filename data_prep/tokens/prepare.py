"""A dataset folder as token arrays on disk, which the trainer memory-maps, and their audit."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from data_prep.rows import Row, read_rows, shape_of, write_whole
from data_prep.tokens.arrow import save_dataset, write_arrow
from data_prep.tokens.audit import Audit, Problem, find_problem
from data_prep.tokens.choose import choose_chat_template, save_chosen
from data_prep.tokens.config import OnRowError, PreferenceConfig, RenderConfig, Template, TokensConfig
from data_prep.tokens.masks import Encoded, encode_batch
from data_prep.tokens.probes import probe
from data_prep.tokens.template import Rendered, RowTemplateError, end_of_turn, render, template_kind

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

AUDIT = "audit.json"
TRAINED_SPLITS = ("train", "validation")

_BATCH = 256

Columns = dict[str, list[Any]]


class Form(NamedTuple):
    """What a row becomes: its columns, how rows are made into them, and how they are counted."""

    features: Callable[[], Any]
    encode: Callable[[list[Row], Any, Any, Any], Columns]
    """Rows, the split's audit, tokenizer and configuration → columns of the rows that can be trained on."""
    audit: type[Audit] = Audit


def prepare(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    config: RenderConfig,
    track: Track = silent,
    form: Form | None = None,
) -> dict[str, float]:
    """Write out/train, out/validation (`datasets` folders) and out/audit.json; returns the audit's totals.

    Columns, unless another `form` is asked for: input_ids and labels (int32 lists of equal length, -100 for no loss)
    and id (string); `config` is then a TokensConfig. A split without rows is not written; equal input gives equal
    bytes. Totals run over both splits (shares: the worse of the two), train_* and validation_* count each.
    DataError names the row, or the share lost to truncation; audit.json is written before the latter.
    """
    out.mkdir(parents=True, exist_ok=True)
    form = form or SUPERVISED
    splits = {split: rows for split in TRAINED_SPLITS if (rows := read_rows(folder, split))}
    if "train" not in splits:
        raise DataError(f"{folder}: has no training rows; check the splits and the curation of the data sets in it")
    if config.chat_template != "own":
        tokenizer = copy.deepcopy(tokenizer)
        choose_chat_template(tokenizer, config.chat_template)
    save_chosen(tokenizer, config.chat_template, out)
    findings = probe(tokenizer, _probed(splits["train"], tokenizer, config))
    audits = [
        _prepare_split(rows, form.audit(split, tokenizer, config), tokenizer, out, config, track, form)
        for split, rows in splits.items()
    ]
    _write_audit(out / AUDIT, tokenizer, config, audits, findings)
    for audit in audits:
        audit.check()
    warnings = sum(finding["status"] == "warning" for finding in findings)
    return {**_totals(audits), "probe_warnings": float(warnings)}


def _probed(rows: list[Row], tokenizer: "PreTrainedTokenizerBase", config: RenderConfig) -> str:
    """Which template the probes ask: text rows never meet the chat template."""
    if all(shape_of(row) == "text" for row in rows):
        return "plain"
    return template_kind(tokenizer, config.template)


def load_prepared(out: Path, split: str) -> "Dataset":
    """The token arrays of one split as a memory-mapped `datasets.Dataset`."""
    from datasets import Dataset

    if not (out / split).is_dir():
        raise DataError(f"{out}: has no tokenised split {split}; tokenise it first")
    return Dataset.load_from_disk(str(out / split))


def _prepare_split(
    rows: list[Row],
    audit: Audit,
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    config: RenderConfig,
    track: Track,
    form: Form,
) -> Audit:
    batches = track(_batches(rows), f"tokens ({audit.split})", total=-(-len(rows) // _BATCH))
    encoded = (form.encode(batch, audit, tokenizer, config) for batch in batches)
    split = write_arrow(out / f".{audit.split}.arrow", form.features(), encoded)
    if not audit.metrics()["rows"]:
        raise DataError(
            f"{audit.split}: all {len(rows)} rows were dropped ({audit.report()['dropped']}); look at one of them with "
            "stages.sft.on_too_long, on_no_supervision and on_template_error set to fail"
        )
    save_dataset(split, out / audit.split)
    return audit


def _encode_rows(rows: list[Row], audit: Audit, tokenizer: "PreTrainedTokenizerBase", config: TokensConfig) -> Columns:
    """The rows that can be trained on, as tokens; the others are dropped or raise, as configured."""
    rendered: list[tuple[Row, Rendered]] = []
    for row in rows:
        try:
            rendered.append((row, render(tokenizer, row, config.template, config.loss_on, config.separator)))
        except RowTemplateError as error:
            refuse(row, "template_error", str(error), audit, config)
    kept = []
    encodings = encode_batch(tokenizer, [text for _, text in rendered], config.max_length)
    for (row, text), encoded in zip(rendered, encodings, strict=True):
        if problem := find_problem(row, encoded, config.max_length):
            refuse(row, *problem, audit, config)
        else:
            audit.add(row, text, encoded)
            kept.append((row, encoded))
    return _columns(kept)


def refuse(row: Row, problem: Problem, message: str, audit: Audit, config: RenderConfig) -> None:
    """Stop with the message, or drop and count the row, as configured for this problem."""
    actions: dict[Problem, OnRowError] = {
        "too_long": config.on_too_long,
        "no_supervision": config.on_no_supervision,
        "template_error": config.on_template_error,
        "broken_pair": config.on_broken_pair if isinstance(config, PreferenceConfig) else "fail",
    }
    if actions[problem] == "fail":
        raise DataError(message)
    audit.drop(row, problem)


def _batches(rows: list[Row]) -> Iterator[list[Row]]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def _features() -> Any:
    from datasets import Features, List, Value

    return Features({"input_ids": List(Value("int32")), "labels": List(Value("int32")), "id": Value("string")})


def _columns(rows: list[tuple[Row, Encoded]]) -> Columns:
    return {
        "input_ids": [encoded.input_ids for _, encoded in rows],
        "labels": [encoded.labels for _, encoded in rows],
        "id": [row["id"] for row, _ in rows],
    }


SUPERVISED = Form(_features, _encode_rows)
"""Rows with loss on what an assistant says."""


def _write_audit(
    path: Path,
    tokenizer: "PreTrainedTokenizerBase",
    config: RenderConfig,
    audits: list[Audit],
    findings: list[dict[str, str]],
) -> None:
    splits = {audit.split: audit.report() for audit in audits}
    text_only = all(set(split["shapes"]) == {"text"} for split in splits.values())
    template: Template = "plain" if text_only else config.template
    report = {
        "template": template_kind(tokenizer, template),
        "end_of_turn": end_of_turn(tokenizer, template),
        "chat_template_sha256": hashlib.sha256(str(tokenizer.chat_template or "").encode()).hexdigest(),
        "probes": findings,
        "config": config.model_dump(mode="json"),
        "splits": splits,
    }
    write_whole(path, (json.dumps(report, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "surrogatepass"))


def _totals(audits: list[Audit]) -> dict[str, float]:
    metrics = {audit.split: audit.metrics() for audit in audits}
    summed = {
        name: sum(split[name] for split in metrics.values()) for name in metrics["train"] if not name.endswith("_share")
    }
    shares = {
        name: max(split[name] for split in metrics.values()) for name in metrics["train"] if name.endswith("_share")
    }
    rows = {f"{split}_rows": values["rows"] for split, values in metrics.items()}
    tokens = {f"{split}_supervised_tokens": values["supervised_tokens"] for split, values in metrics.items()}
    lengths = {f"{audit.split}_length_{name}": length for audit in audits for name, length in audit.lengths().items()}
    return {**summed, **shares, **rows, **tokens, **lengths}
