"""The tables of the report as plain text rows, shared by HTML and Markdown."""

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.report.diff import Span, word_diff
from pipeline.report.formatting import MISSING, date, fixed, number, percent, signed, size, value
from pipeline.report.safe_text import one_line, shortened
from pipeline.report.schema import Audit, DataSet, Environment, Preview, Report, Sample, Stage, Training

# keep the page below 2 MB, whatever the run holds
_MAX_PROMPT, _MAX_ANSWER, _MAX_ROW, _MAX_CONFIG_LINES, _MAX_SETTING = 3000, 3000, 6000, 1000, 500


class FunnelRow(NamedTuple):
    """One step of the funnel with its bar (percent of the rows read)."""

    step: str
    entered: int
    dropped: int
    changed: int | None
    left: int
    bar: float
    bar_dropped: float


def funnel_rows(data: DataSet) -> list[FunnelRow]:
    """Rows in, dropped, changed and left per step."""
    entered = [step.rows + step.dropped for step in data.funnel]
    most = max([*entered, 1])
    return [
        FunnelRow(
            step.step,
            start,
            step.dropped,
            step.changed,
            step.rows,
            *(_share(part, most) for part in (step.rows, step.dropped)),
        )
        for step, start in zip(data.funnel, entered, strict=True)
    ]


def _share(part: float, whole: float) -> float:
    return round(100 * max(part, 0) / whole, 2) if whole else 0.0


class LimitRow(NamedTuple):
    """What other values of one limit would keep."""

    step: str
    rule: str
    limit: str
    cells: list[tuple[str, str, bool]]
    """(value, rows and words kept, whether it is the present one)."""
    borderline: str


def limit_rows(data: DataSet) -> list[LimitRow]:
    """The limits that matter: those of which some value keeps other rows. Two values on each side of it."""
    rows = []
    for limit in data.what_if:
        if len({each.rows for each in limit.values}) < 2:
            continue
        at = next((index for index, each in enumerate(limit.values) if each.current), 0)
        shown = limit.values[max(at - 2, 0) : at + 3]
        cells = [(_plain(each.value), f"{number(each.rows)} / {number(each.words)}", each.current) for each in shown]
        fates = ((each, "kept" if each.kept else "dropped") for each in limit.borderline)
        nearest = (f"{each.id} ({_plain(each.value)}, {fate})" for each, fate in fates)
        bound = "at least" if limit.side == "min" else "at most"
        rows.append(LimitRow(limit.step, limit.rule, f"{bound} {_plain(limit.limit)}", cells, ", ".join(nearest)))
    return rows


def _plain(value: float) -> str:
    return f"{value:,.4g}"


def split_rows(data: DataSet) -> list[tuple[str, int, float, str]]:
    """(split, rows, percent of all rows, sha256) of each split."""
    total = sum(data.splits.values())
    return [(name, rows, _share(rows, total), data.split_sha256.get(name, "")) for name, rows in data.splits.items()]


def kept(data: DataSet) -> str:
    """How many of the rows read are left, in words."""
    if not data.funnel or not data.funnel[0].rows:
        return ""
    first, last = data.funnel[0].rows + data.funnel[0].dropped, data.funnel[-1].rows
    return f"{number(last)} of {number(first)} rows kept ({percent(last / first)})"


def audit_facts(audit: Audit | None) -> list[tuple[str, str]]:
    """What tokenising did, as (name, value)."""
    if audit is None:
        return []
    share = audit.supervised_tokens / audit.tokens if audit.supervised_tokens is not None and audit.tokens else None
    supervised = number(audit.supervised_tokens) + (f" ({percent(share)} of all tokens)" if share is not None else "")
    quantiles = " · ".join(f"{name} {number(length)}" for name, length in audit.length_quantiles.items())
    facts = [
        ("Rows", number(audit.rows)),
        ("Tokens", number(audit.tokens)),
        ("Tokens trained on", supervised),
        ("Rows cut short", number(audit.truncated_rows)),
        ("Trained tokens lost by cutting", percent(audit.truncated_supervised_share)),
        ("Row length in tokens", quantiles or MISSING),
        ("Rows after packing", number(audit.packed_rows)),
        ("Template probes", _probes(audit)),
    ]
    return [(name, text) for name, text in facts if text != MISSING]


def _probes(audit: Audit) -> str:
    """How many probes passed, and every warning."""
    if not audit.probes:
        return MISSING
    warnings = [f"{probe.name}: {probe.text}" for probe in audit.probes if probe.status == "warning"]
    return "; ".join([f"{len(audit.probes) - len(warnings)} of {len(audit.probes)} passed", *warnings])


def preview_pieces(preview: Preview) -> list[tuple[str, bool]]:
    """(text, supervised) pieces; a very long row is shortened."""
    shown, room = [], _MAX_ROW
    for piece in preview.pieces:
        if room <= 0:
            return [*shown, (" … (the rest is in report.json)", False)]
        shown.append((shortened(piece.text, room), piece.supervised))
        room -= max(len(piece.text), 1)
    return shown


class Token(NamedTuple):
    """A part of rendered text: `text`, a special `token`, or a `newline`."""

    kind: str
    text: str


# <|im_end|>, <s>, </s>, [INST]: the spellings that chat templates use
_SPECIAL = re.compile(r"(<\|[^|<>\s]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>|\[/?INST\]|\n)")


def tokens(text: str) -> list[Token]:
    """Split rendered text so that special tokens and newlines can be shown as what they are."""
    parts = [part for part in _SPECIAL.split(text) if part]
    return [
        Token("newline" if part == "\n" else "token" if _SPECIAL.fullmatch(part) else "text", part) for part in parts
    ]


def step_table(training: Training, limit: int = 40) -> list[tuple[str, str, str, str, str]]:
    """(step, train loss, validation loss, learning rate, gradient norm): at most about `limit` of either kind."""
    steps = {step.step: step for step in training.steps}
    validation = {point.step: point.loss for point in training.validation}
    every = max(1, -(-len(steps) // limit))
    shown = sorted(
        {
            *list(steps)[::every],
            *list(steps)[-1:],
            *list(validation)[:: max(1, -(-len(validation) // limit))],
            *list(validation)[-1:],
        }
    )
    rows = []
    for step in shown:
        point = steps.get(step)
        numbers = (
            (point.loss, validation.get(step), point.learning_rate, point.grad_norm)
            if point
            else (None, validation.get(step), None, None)
        )
        rows.append((number(step), *(number(item) for item in numbers)))
    return rows


@dataclass(frozen=True)
class Shown:
    """One win or regression, side by side."""

    id: str
    prompt: str
    reference: str
    base: list[Span]
    tuned: list[Span]
    base_score: str
    tuned_score: str
    difference: str

    @property
    def base_text(self) -> str:
        """The base's answer in one piece."""
        return "".join(span.text for span in self.base)

    @property
    def tuned_text(self) -> str:
        """The tuned model's answer in one piece."""
        return "".join(span.text for span in self.tuned)


def shown_sample(sample: Sample) -> Shown:
    """A sample with the word-level difference of its two answers."""
    base, tuned = word_diff(shortened(sample.base, _MAX_ANSWER), shortened(sample.tuned, _MAX_ANSWER))
    return Shown(
        id=sample.id or "",
        prompt=shortened(sample.prompt, _MAX_PROMPT),
        reference=shortened(sample.reference, _MAX_ANSWER),
        base=base,
        tuned=tuned,
        base_score=fixed(sample.base_score, 3),
        tuned_score=fixed(sample.tuned_score, 3),
        difference=signed(sample.difference, 3),
    )


def stage_metrics(stages: list[Stage]) -> list[tuple[str, str, str]]:
    """(stage, metric, value) of every number that a stage reported."""
    return [
        (stage.name, name, _scalar(item)) for stage in stages for name, item in list(flat(stage.metrics).items())[:40]
    ]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested maps as dotted keys, the way Hydra overrides name them; empty maps and lists stay."""
    out: dict[str, Any] = {}
    for key, item in tree.items():
        if isinstance(item, dict) and item:
            out |= flat(item, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = item
    return out


def config_lines(config: dict[str, Any]) -> list[str]:
    """The resolved configuration, one `key = value` a line."""
    lines = [
        f"{key} = {shortened(json.dumps(item, ensure_ascii=False), _MAX_SETTING)}" for key, item in flat(config).items()
    ]
    more = len(lines) - _MAX_CONFIG_LINES
    return lines if more <= 0 else [*lines[:_MAX_CONFIG_LINES], f"… {more} more lines in report.json"]


def environment_rows(report: Report) -> list[tuple[str, str]]:
    """Machine, seeds, commit, model hashes as (name, value)."""
    environment = report.environment or Environment()
    rows = [
        ("Run", report.run.id),
        ("Started", date(report.run.started)),
        ("Provetune", value(report.run.provetune)),
        ("Python", value(environment.python)),
        ("Platform", value(environment.platform)),
        ("CPU", value(environment.cpu)),
        ("Cores", value(environment.cores)),
        ("Threads", value(environment.threads)),
        ("Memory", size(environment.memory_bytes)),
        ("GPUs", ", ".join(_scalar(gpu) for gpu in environment.gpus) or ("none" if report.environment else MISSING)),
        ("Seed", "" if environment.seed is None else str(environment.seed)),
        ("Deterministic", value(environment.deterministic)),
        ("Git", _git(environment)),
    ]
    if report.model:
        rows += [("Model source", value(report.model.source)), ("Model fingerprint", value(report.model.fingerprint))]
        rows += [("Chat template sha256", value(report.model.template_sha256))]
    return [(name, text) for name, text in rows if text and text != MISSING]


def _git(environment: Environment) -> str:
    git = environment.git
    if git is None:
        return "not a git checkout" if environment.python else ""
    if not git.dirty:
        return f"{value(git.commit)}, clean"
    return f"{value(git.commit)}, with uncommitted changes (diff sha256 {value(git.diff_sha256)})"


def _scalar(item: Any) -> str:
    text = json.dumps(item, ensure_ascii=False) if isinstance(item, dict | list) else value(item)
    return one_line(shortened(text, 2000))


def policy_rows(policies: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, policy) of one data set."""
    return [(name.replace("_", " "), _scalar(item)) for name, item in policies.items()]
