"""Overlap of generated text with references: ROUGE per row, BLEU and chrF of the corpus.

ROUGE is rouge-score's (Lin 2004), BLEU (Papineni et al. 2002) and chrF (Popović 2015) are sacrebleu's. The last two are
functions of summed counts: `*_counts` gives them per row and `*_from_counts` the score of any sums, so that a bootstrap
can recompute the corpus score ten thousand times at once.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.errors import DataError

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
BLEU_ORDER = 4
CHRF_ORDER = 6
CHRF_BETA = 2

# Scripts that write words without spaces: each character, with its marks, is a word.
_UNSPACED = "".join(rf"\p{{{name}}}" for name in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar"))
_UNICODE_WORD = rf"[{_UNSPACED}]\p{{M}}*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{N}}\p{{M}}])+"


class UnicodeTokenizer:
    """rouge-score's tokenizer with the letters and digits of every script instead of ASCII's.

    Lower case, split at everything else, Porter stems for ASCII words of more than three characters.
    """

    def __init__(self) -> None:
        """Compile the pattern of a word once."""
        import regex
        from nltk.stem.porter import PorterStemmer

        self._word = regex.compile(_UNICODE_WORD)
        self._stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        words = self._word.findall(unicodedata.normalize("NFC", text).lower())
        return [self._stem(word) if word.isascii() and len(word) > 3 else word for word in words]


def score_texts(outputs: Sequence[str], references: Sequence[str]) -> list[dict[str, float]]:
    """ROUGE F-measures (0 to 1) per row; an empty output scores 0.

    The reference decides on the tokenizer, so that two models are always scored alike: rouge-score's own where its
    letters and digits are ASCII, otherwise `UnicodeTokenizer` (rouge-score would drop every other letter).
    """
    from rouge_score.rouge_scorer import RougeScorer

    _check(outputs, references)
    ascii_scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    unicode_scorer = RougeScorer(list(ROUGE), tokenizer=UnicodeTokenizer())
    rows = []
    for output, reference in zip(outputs, references, strict=True):
        scorer = ascii_scorer if has_ascii_words(reference) else unicode_scorer
        rows.append({name: float(score.fmeasure) for name, score in scorer.score(reference, output).items()})
    return rows


def has_ascii_words(text: str) -> bool:
    """Whether no letter or digit of the text is outside ASCII (curly quotes and dashes do not count)."""
    return text.isascii() or all(character.isascii() or not character.isalnum() for character in text)


def rouge_policy() -> str:
    """How ROUGE was computed, in one line for the report."""
    from importlib.metadata import version

    return (
        f"rouge-score {version('rouge-score')}, F-measure, Porter stemmer, rougeLsum split at newlines; "
        "Unicode words where the reference has letters or digits outside ASCII"
    )


def bleu_counts(outputs: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(rows, 10) counts: output length, reference length, 4 matched and 4 output n-gram counts.

    The references decide on sacrebleu's tokenizer: its default, or single characters where most of their letters are of
    scripts without spaces, in which the default would take a sentence for one word.
    """
    return _counts(_bleu(references), outputs, references)


def chrf_counts(outputs: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(rows, 18) counts: output, reference and matched character n-grams for each of 6 orders."""
    return _counts(_chrf(), outputs, references)


def bleu_signature(references: Sequence[str] = ()) -> str:
    """sacrebleu's signature of the BLEU that is computed here against these references."""
    return _signature(_bleu(references))


def chrf_signature() -> str:
    """sacrebleu's signature of the chrF that is computed here."""
    return _signature(_chrf())


def bleu_from_counts(sums: np.ndarray) -> np.ndarray:
    """BLEU (0 to 100) of summed counts (..., 10), with sacrebleu's default exponential smoothing."""
    output_length, reference_length = sums[..., 0], sums[..., 1]
    matched, total = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    # NIST smoothing: the k-th order without a match counts as 1/2^k of a match.
    misses = np.cumsum((matched == 0) & (total > 0), axis=-1)
    precision = np.where(matched > 0, matched, 0.5**misses) / np.maximum(total, 1)
    with np.errstate(divide="ignore", over="ignore"):
        shortness = np.where(output_length < reference_length, 1 - reference_length / np.maximum(output_length, 1), 0.0)
        score = 100 * np.exp(shortness + np.log(precision).mean(axis=-1))
    # As sacrebleu: nothing matched, or an order without any n-gram, is 0.
    return np.where((matched.sum(axis=-1) == 0) | (total.min(axis=-1) == 0) | (output_length == 0), 0.0, score)


def chrf_from_counts(sums: np.ndarray) -> np.ndarray:
    """chrF2 (0 to 100) of summed counts (..., 18), averaged over the orders that both sides have."""
    outputs, references, matched = (sums[..., start::3] for start in range(3))
    counted = (outputs > 0) & (references > 0)
    orders = np.maximum(counted.sum(axis=-1), 1)
    precision = (matched / np.maximum(outputs, 1)).sum(axis=-1) / orders
    recall = (matched / np.maximum(references, 1)).sum(axis=-1) / orders
    below = CHRF_BETA**2 * precision + recall
    return 100 * (1 + CHRF_BETA**2) * precision * recall / np.where(below > 0, below, 1.0)


def _bleu(references: Sequence[str]) -> Any:
    import regex
    from sacrebleu.metrics.bleu import BLEU

    letters, unspaced = (
        sum(len(regex.findall(pattern, text)) for text in references) for pattern in (r"\p{L}", f"[{_UNSPACED}]")
    )
    tokenizer = "char" if 2 * unspaced > letters else None
    return BLEU(tokenize=tokenizer, force=True)  # no warning about text that looks tokenised: it is the model's


def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _counts(metric: Any, outputs: Sequence[str], references: Sequence[str]) -> np.ndarray:
    _check(outputs, references)
    return np.asarray(metric._extract_corpus_statistics(list(outputs), [list(references)]), dtype=np.float64)


def _signature(metric: Any) -> str:
    metric.corpus_score(["a"], [["a"]])  # the number of references is known only afterwards
    return str(metric.get_signature())


def _check(outputs: Sequence[str], references: Sequence[str]) -> None:
    if len(outputs) != len(references):
        raise DataError(f"outputs: {len(outputs)} for {len(references)} references; give one reference for each")
    if not outputs:
        raise DataError("outputs: none; score at least one row")
    for index, reference in enumerate(references):
        if not isinstance(reference, str) or not reference.strip():
            raise DataError(
                f"reference {index}: missing or empty; drop the row, an answer cannot be compared with nothing"
            )
