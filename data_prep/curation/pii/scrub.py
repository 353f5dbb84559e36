"""What is done about findings in canonical rows: the same in a prompt, a turn, a tool call and a rejected answer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import chosen, find_raw
from data_prep.curation.pii.pseudonyms import Pseudonyms
from data_prep.curation.pii.spans import Detector, Span
from data_prep.curation.pii.walk import rewrite
from data_prep.errors import DataError
from data_prep.rows import Row

_ROUNDS = 10

Located = Mapping[str, Sequence[Span]]
"""The measured findings of a row: path of a text → its spans, of any score and as they were found."""


class Scrubbed(NamedTuple):
    """A row after its findings were dealt with."""

    row: Row | None
    """None: the row is dropped."""
    counts: dict[str, int]
    """Findings per kind."""


class Scrubber:
    """Applies the action of a configuration; `pseudonyms` is needed by that action only."""

    def __init__(self, config: Pii, pseudonyms: Pseudonyms | None = None, detectors: Sequence[Detector] = ()) -> None:
        if config.action == "pseudonym" and pseudonyms is None:
            raise DataError("pii: action pseudonym without a key; give Pseudonyms(read_key(), config.phone_regions)")
        self._config, self._pseudonyms, self._detectors = config, pseudonyms, detectors

    def apply(self, row: Row, measured: Located | None = None) -> Scrubbed:
        """A new row without the findings and their number per kind; the given row stays as it is.

        Args:
            row: a canonical row.
            measured: its findings, when they are known; otherwise they are looked for.

        Raises:
            DataError: the row is nested deeper than it can be walked, or is not the row that was measured.
        """
        counts: Counter[str] = Counter()

        def visit(path: str, hint: str, text: str) -> str:
            if measured is None:
                spans = find_hinted([(hint, text)], self._config, self._detectors)[0]
            else:
                spans = measured.get(path, ())
            if any(span.end > len(text) for span in spans):
                raise DataError(f"row {row.get('id')}: not the row whose personal data was measured; measure it again")
            return self._replaced(text, chosen(spans, self._config), hint, counts)

        clean = rewrite(row, visit)
        dropped = self._config.action == "drop" and counts
        return Scrubbed(None if dropped else clean, dict(sorted(counts.items())))

    def _replaced(self, text: str, spans: list[Span], hint: str, counts: Counter[str]) -> str:
        replacement = self._replacement()
        for _ in range(_ROUNDS):
            counts.update(span.kind for span in spans)
            text = _with(text, spans, replacement)
            # A mask shortens what stood between a word and a number; what that brings up is masked as well.
            if not spans or self._config.action != "mask":
                break
            spans = chosen(find_hinted([(hint, text)], self._config)[0], self._config)
        return text

    def _replacement(self) -> Callable[[Span, str], str]:
        if self._config.action == "pseudonym" and self._pseudonyms:
            return self._pseudonyms.of
        if self._config.action == "mask":
            return lambda span, _text: f"[{span.kind.upper()}]"
        return lambda span, text: text[span.start : span.end]


def find_hinted(texts: Sequence[tuple[str, str]], config: Pii, detectors: Sequence[Detector] = ()) -> list[list[Span]]:
    """The findings of any score in texts with the hints of their places, by (hint, text).

    The hint stands before the text: so further detectors see it too, and its own words are never findings.
    """
    leads = [f"{hint}: " if hint else "" for hint, _ in texts]
    found = find_raw([lead + text for lead, (_, text) in zip(leads, texts, strict=True)], config, detectors)
    return [
        [_moved(span, len(lead)) for span in spans if span.start >= len(lead)] if lead else spans
        for lead, spans in zip(leads, found, strict=True)
    ]


def _moved(span: Span, back: int) -> Span:
    return Span(span.start - back, span.end - back, span.kind, span.score, span.rule)


def _with(text: str, spans: list[Span], replacement: Callable[[Span, str], str]) -> str:
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], replacement(span, text)]
        end = span.end
    return "".join([*parts, text[end:]])
