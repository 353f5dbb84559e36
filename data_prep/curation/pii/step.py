"""Personal data as a filter step: findings are measured with their places and never with their text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from data_prep.curation.pii.config import Pii
from data_prep.curation.pii.detect import chosen
from data_prep.curation.pii.kinds import KINDS
from data_prep.curation.pii.scrub import Scrubbed, Scrubber, find_hinted
from data_prep.curation.pii.spans import Detector, Span
from data_prep.curation.pii.walk import rewrite
from data_prep.curation.step import Limit
from data_prep.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

SPANS = "pii_spans"


class PiiStep:
    """Measures what rules and models find in every text of a row; `drop` is the only action that drops rows."""

    def __init__(self, config: Pii) -> None:
        self._config = config
        self._detectors: list[Detector] | None = None

    def columns(self) -> "Mapping[str, pa.DataType]":
        """The findings of each kind at any score, and every place: part, [start, end) in characters, score, rule.

        `part` is a path (see `walk`); a path, a kind and a rule hold no text of the row. Spans may overlap, and those
        of the rule `join` are gaps between others: which of them count is read off them under the thresholds.
        """
        import pyarrow as pa

        span = [("part", pa.string()), ("start", pa.int64()), ("end", pa.int64())]
        span += [("kind", pa.string()), ("score", pa.float64()), ("rule", pa.string())]
        return {f"pii_{kind}": pa.int64() for kind in KINDS} | {SPANS: pa.list_(pa.struct(span))}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`. All texts of the rows are looked through together."""
        texts: list[tuple[str, str]] = []
        places: list[tuple[int, str]] = []
        for number, row in enumerate(rows):

            def visit(path: str, hint: str, text: str, number: int = number) -> str:
                texts.append((hint, text))
                places.append((number, path))
                return text

            rewrite(row, visit)
        spans: list[list[dict[str, Any]]] = [[] for _ in rows]
        counts = {f"pii_{kind}": [0] * len(rows) for kind in KINDS}
        everything = self._config.model_copy(update={"min_score": 0.0, "thresholds": {}})
        for (number, path), found in zip(places, find_hinted(texts, self._config, self._models()), strict=True):
            if found:
                spans[number] += [
                    {"part": path, **span._asdict(), "score": round(span.score, 4)} for span in sorted(found)
                ]
                for span in chosen(found, everything):
                    counts[f"pii_{span.kind}"][number] += 1
        return {**counts, SPANS: spans}

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """With the action `drop`, each kind and its number; otherwise nothing."""
        rows = measures.num_rows
        if self._config.action != "drop":
            return [[] for _ in range(rows)]
        found = measures[SPANS].to_pylist()
        return [[f"{kind} {count}" for kind, count in counted(spans, self._config).items()] for spans in found]

    def limits(self) -> Sequence[Limit]:
        """None: a limit of a score holds for each finding and not for a row."""
        return []

    def _models(self) -> list[Detector]:
        if self._detectors is None:
            self._detectors = make_detectors(self._config)
        return self._detectors


class Scrub(Protocol):
    """Takes the findings out of one row, as the configuration asks."""

    def __call__(self, row: Row, spans: Sequence[Mapping[str, Any]] | None = None) -> Row:
        """The clean row, the given one itself if nothing counts.

        Args:
            row: the row as it was measured.
            spans: its `pii_spans`; without them they are found anew, which is slow with models.
        """
        ...


def make_scrub(config: Pii) -> Scrub:
    """What masks or replaces findings in kept rows; make one per process.

    Raises:
        DataError: pseudonyms are asked for and the environment holds no key.
    """
    scrubber, step = make_scrubber(config), PiiStep(config)

    def scrub(row: Row, spans: Sequence[Mapping[str, Any]] | None = None) -> Row:
        return (
            _scrubbed(row, spans if spans is not None else step.measure([row])[SPANS][0], config, scrubber).row or row
        )

    return scrub


def scrub(
    row: Row, spans: Sequence[Mapping[str, Any]], config: Pii, scrubber: Scrubber
) -> tuple[Row | None, dict[str, int]]:
    """A row without its measured findings (None: dropped), and the findings per kind; untouched when none counts."""
    done = _scrubbed(row, spans, config, scrubber)
    return done.row, done.counts


def make_scrubber(config: Pii) -> Scrubber:
    """A scrubber with the key of the environment where one is needed, and without models."""
    if config.action != "pseudonym":
        return Scrubber(config)
    from data_prep.curation.pii.key import read_key
    from data_prep.curation.pii.pseudonyms import Pseudonyms

    return Scrubber(config, Pseudonyms(read_key(), config.phone_regions))


def make_detectors(config: Pii) -> list[Detector]:
    """The models of a configuration, with their weights loaded.

    Raises:
        DataError: the extra `pii` is not installed, or its files are not those that were tested.
    """
    if not config.backends:
        return []
    from data_prep.curation.pii.ner.detector import NerDetector

    return [NerDetector(backend, config) for backend in config.backends]


def counted(spans: Sequence[Mapping[str, Any]], config: Pii) -> dict[str, int]:
    """The findings per kind that count under the thresholds, in the order of the kinds."""
    found = Counter(span.kind for each in _located(spans).values() for span in chosen(each, config))
    return {kind: found[kind] for kind in KINDS if found[kind]}


def _scrubbed(row: Row, spans: Sequence[Mapping[str, Any]], config: Pii, scrubber: Scrubber) -> Scrubbed:
    if not spans or not counted(spans, config):
        return Scrubbed(row, {})
    return scrubber.apply(row, _located(spans))


def _located(spans: Sequence[Mapping[str, Any]]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        place = Span(span["start"], span["end"], span["kind"], span["score"], span["rule"])
        found.setdefault(span["part"], []).append(place)
    return found
