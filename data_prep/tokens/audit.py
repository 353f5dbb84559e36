"""What tokenisation did to a split: lengths, loss masks, truncation, and a preview that a person can judge."""

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from data_prep.errors import DataError
from data_prep.rows import Row, shape_of
from data_prep.tokens.config import RenderConfig
from data_prep.tokens.masks import IGNORED, Encoded
from data_prep.tokens.template import Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Problem = Literal["too_long", "no_supervision", "template_error", "broken_pair"]

_QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "max": 1.0}


def find_problem(row: Row, encoded: Encoded, max_length: int) -> tuple[Problem, str] | None:
    """Why a tokenised row cannot be trained on, with the error line; None when it can."""
    name = f"row {row.get('id')}"
    if encoded.first_supervised is None:
        return "no_supervision", (
            f"{name}: has no supervised token (no assistant turn, or an answer that shares tokens with the prompt); "
            "correct the row or set stages.sft.on_no_supervision=drop"
        )
    if encoded.unsupervised_ends:
        return "template_error", (
            f"{name}: the end-of-turn token is not supervised in {encoded.unsupervised_ends} turn(s), so the model "
            "would not learn to stop; choose another chat template or set stages.sft.on_template_error=drop"
        )
    if not encoded.supervised:
        return "too_long", (
            f"{name}: {encoded.tokens} tokens, of which the first {encoded.first_supervised} are prompt, but "
            f"stages.sft.max_length is {max_length}: no supervised token is left; raise stages.sft.max_length to more "
            f"than {encoded.first_supervised} or set stages.sft.on_too_long=drop"
        )
    return None


class Audit:
    """Counts over the rows of one split; `report` is what audit.json holds."""

    def __init__(self, split: str, tokenizer: "PreTrainedTokenizerBase", config: RenderConfig) -> None:
        """Start empty; the tokenizer decodes the preview."""
        self.split = split
        self._tokenizer = tokenizer
        self._config = config
        self._lengths = array("q")
        self._total: Counter[str] = Counter()
        self._sources: dict[str, Counter[str]] = {}
        self._dropped: Counter[str] = Counter()
        self._shapes: Counter[str] = Counter()
        self._preview: list[dict[str, Any]] = []

    def add(self, row: Row, rendered: Rendered, encoded: Encoded) -> None:
        """Count a row that is kept; the first ones also go into the preview."""
        counts = {
            "rows": 1,
            "tokens": len(encoded.input_ids),
            "supervised_tokens": encoded.supervised,
            "truncated_rows": int(encoded.truncated_tokens > 0),
            "truncated_tokens": encoded.truncated_tokens,
            "truncated_supervised_tokens": encoded.truncated_supervised,
            "straddling_tokens": encoded.straddling,
            "typed_control_tokens": len(rendered.typed),
        }
        self._total.update(counts)
        self._of_source(row).update(counts)
        self._shapes[shape_of(row)] += 1
        self._lengths.append(encoded.tokens)
        if len(self._preview) < self._config.preview_rows:
            self._preview.append(self._shown(row, rendered, encoded))

    def drop(self, row: Row, problem: Problem) -> None:
        """Count a row that is left out."""
        self._dropped[problem] += 1
        self._of_source(row)["dropped_rows"] += 1

    def metrics(self) -> dict[str, float]:
        """The split's totals; token counts are after truncation, shares in [0, 1] of what was there before it."""
        total = self._total
        counted = {name: total[name] for name in ("rows", "tokens", "supervised_tokens", "truncated_rows")}
        lost, lost_supervised = total["truncated_tokens"], total["truncated_supervised_tokens"]
        return {
            **counted,
            "truncated_tokens": lost,
            "truncated_supervised_tokens": lost_supervised,
            "truncated_token_share": lost / max(1, total["tokens"] + lost),
            "truncated_supervised_share": lost_supervised / max(1, total["supervised_tokens"] + lost_supervised),
            "straddling_tokens": total["straddling_tokens"],
            "typed_control_tokens": total["typed_control_tokens"],
            "dropped_rows": self._dropped.total(),
        }

    def lengths(self) -> dict[str, int]:
        """Quantiles of the kept rows' lengths in tokens before truncation; each is the length of a real row."""
        import numpy as np

        if not self._lengths:
            return {}
        found = np.quantile(np.asarray(self._lengths), list(_QUANTILES.values()), method="inverted_cdf")
        return {name: int(value) for name, value in zip(_QUANTILES, found, strict=True)}

    def check(self) -> None:
        """DataError when truncation takes a larger share of the supervised tokens than the configuration allows."""
        share, allowed = self.metrics()["truncated_supervised_share"], self._config.max_truncated_share
        if share > allowed:
            lengths = ", ".join(f"{name} {value}" for name, value in self.lengths().items())
            raise DataError(
                f"{self.split}: {share:.1%} of the supervised tokens are lost to stages.sft.max_length="
                f"{self._config.max_length}, more than max_truncated_share={self._config.max_truncated_share:.1%} "
                f"(row lengths: {lengths} tokens); raise stages.sft.max_length or filter by length"
            )

    def report(self) -> dict[str, Any]:
        """Everything about the split, ready for JSON."""
        return {
            **self.metrics(),
            "lengths": self.lengths(),
            "shapes": dict(sorted(self._shapes.items())),
            "dropped": dict(sorted(self._dropped.items())),
            "sources": {name: dict(sorted(counts.items())) for name, counts in sorted(self._sources.items())},
            "preview": self._preview,
        }

    def _of_source(self, row: Row) -> Counter[str]:
        return self._sources.setdefault(str(row.get("source", "")), Counter())

    def _shown(self, row: Row, rendered: Rendered, encoded: Encoded) -> dict[str, Any]:
        """One row of the preview; `round_trip` says whether its ids decode to exactly the text shown."""
        pieces = preview_pieces(rendered, encoded)
        decoded = self._tokenizer.decode(
            encoded.input_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return {
            "id": row.get("id"),
            "source": row.get("source"),
            "tokens": encoded.tokens,
            "truncated_tokens": encoded.truncated_tokens,
            "round_trip": decoded == "".join(piece["text"] for piece in pieces),
            "pieces": pieces,
        }


def preview_pieces(rendered: Rendered, encoded: Encoded) -> list[dict[str, Any]]:
    """The row's text as pieces `{"text", "supervised"}`, neighbours of one kind merged.

    Joined, they are the rendered text, up to the last kept token of a truncated row.
    """
    pieces: list[dict[str, Any]] = []
    covered = 0
    for (_, end), label in zip(encoded.offsets, encoded.labels, strict=True):
        supervised, text = label != IGNORED, rendered.text[covered:end]
        if pieces and pieces[-1]["supervised"] == supervised:
            pieces[-1]["text"] += text
        else:
            pieces.append({"text": text, "supervised": supervised})
        covered = max(covered, end)
    if not encoded.truncated_tokens and covered < len(rendered.text):
        pieces.append({"text": rendered.text[covered:], "supervised": False})
    return pieces
