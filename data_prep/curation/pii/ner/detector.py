"""A model as a detector: it reads texts window by window, and its findings are trimmed to whole words."""

from collections.abc import Iterator, Sequence
from typing import Any

from data_prep.curation.pii.config import Backend, Pii
from data_prep.curation.pii.ner.presidio import Presidio
from data_prep.curation.pii.ner.rampart import Rampart
from data_prep.curation.pii.ner.windows import windows
from data_prep.curation.pii.spans import Span

_BACKENDS: dict[Backend, Any] = {"presidio": Presidio, "rampart": Rampart}
_NO_EDGE = ' \t\r\n\u00a0,;:!?"“”‘()[]{}<>|*_#=-–—.'


class NerDetector:
    """Finds the kinds of a configuration with one model. Each window is read alone: nothing depends on a batch."""

    def __init__(self, backend: Backend, config: Pii) -> None:
        self._model = _BACKENDS[backend]()
        self._kinds = frozenset[str](config.ner_kinds)
        self._candidates = config.ner_on == "candidates"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The findings of each text, of any score."""
        return [list(self._find(text)) for text in texts]

    def _find(self, text: str) -> Iterator[Span]:
        for window in windows(text, self._model.longest, self._candidates):
            for span in self._model.find(window.text):
                if span.kind in self._kinds:
                    yield from _trimmed(span, window.start, text)


def _trimmed(span: Span, offset: int, text: str) -> Iterator[Span]:
    """The span within the text, without spaces and signs at its ends and 's; one for each line that it runs over."""
    start, stop = span.start + offset, span.end + offset
    while start < stop:
        line = text.find("\n", start, stop)
        end = stop if line < 0 else line
        after = end + 1
        while start < end and text[start] in _NO_EDGE:
            start += 1
        while end > start and text[end - 1] in _NO_EDGE:
            end -= 1
        if text[max(start, end - 2) : end] in ("'s", "’s"):
            end -= 2
        if end > start:
            yield Span(start, end, span.kind, round(float(span.score), 4), span.rule)
        start = max(after, end)
