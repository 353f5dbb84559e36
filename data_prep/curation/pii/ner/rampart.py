"""Rampart: a BERT token classifier of 14.7 MB for personal data (National Design Studio, CC BY 4.0), on onnxruntime."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from data_prep.curation.pii.ner.files import model_folder
from data_prep.curation.pii.spans import Span

LONGEST = 480
"""Characters of a window: what its authors feed it with."""
_MOST_TOKENS = 510
_LEAST = 0.3
"""The smallest probability of a word that belongs to a finding; the threshold then holds for a whole finding."""
_KINDS = {
    **dict.fromkeys(("GIVEN_NAME", "SURNAME"), "name"),
    **dict.fromkeys(("CITY", "STATE"), "place"),
    **dict.fromkeys(("BUILDING_NUMBER", "STREET_NAME", "SECONDARY_ADDRESS", "ZIP_CODE"), "address"),
    **dict.fromkeys(
        ("PHONE", "EMAIL", "TAX_ID", "BANK_ACCOUNT", "ROUTING_NUMBER", "GOVERNMENT_ID", "PASSPORT", "DRIVERS_LICENSE"),
        "number",
    ),
    "URL": "url",
}


class _Word(NamedTuple):
    start: int
    end: int
    kind: str
    score: float
    """The largest probability, among its tokens, that they belong to any kind."""


class Rampart:
    """The model, with its weights loaded."""

    longest = LONGEST

    def __init__(self) -> None:
        folder = model_folder("rampart")
        import numpy as np
        import onnxruntime  # pyright: ignore[reportMissingImports]
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        # One thread: the processes of the engine share the cores, and sums stay in one order.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = str(folder / "onnx" / "model_q4.onnx")
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        kinds = [_KINDS.get(labels[str(number)][2:], "") for number in range(len(labels))]
        self._kinds = sorted(set(kinds) - {""})
        # Probabilities of the labels → of the kinds.
        self._sums = np.array([[kind == each for each in self._kinds] for kind in kinds], dtype=np.float32)

    def find(self, text: str) -> Iterator[Span]:
        """The findings in one window."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        words: list[_Word] = []
        ids, offsets, numbers = encoding.ids, encoding.offsets, encoding.word_ids
        for begin in range(0, len(ids), _MOST_TOKENS):
            part = slice(begin, begin + _MOST_TOKENS)
            words += self._words(offsets[part], numbers[part], self._probabilities(ids[part]))
        yield from self._spans(words, text)

    def _words(
        self, offsets: Sequence[tuple[int, int]], numbers: Sequence[int | None], probabilities: Any
    ) -> Iterator[_Word]:
        """Words of their tokens: the kind is that of the token that belongs to one most surely."""
        scores, kinds = probabilities.sum(axis=1).tolist(), probabilities.argmax(axis=1).tolist()
        word, previous = None, None
        for (start, end), number, score, kind in zip(offsets, numbers, scores, kinds, strict=True):
            token = _Word(start, end, self._kinds[kind], min(score, 1.0))
            if word is None or number is None or number != previous:
                if word and word.end > word.start:
                    yield word
                word = token
            else:
                word = (token if token.score > word.score else word)._replace(start=word.start, end=end)
            previous = number
        if word and word.end > word.start:
            yield word

    def _probabilities(self, ids: Sequence[int]) -> Any:
        """(tokens, kinds)"""
        import numpy as np

        wrapped = [self._tokenizer.token_to_id("[CLS]"), *ids, self._tokenizer.token_to_id("[SEP]")]
        tokens = np.array([wrapped], dtype=np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
        logits = self._session.run(None, inputs)[0][0, 1:-1]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials @ self._sums / exponentials.sum(axis=1, keepdims=True)

    def _spans(self, words: list[_Word], text: str) -> Iterator[Span]:
        """Neighbouring words of one kind, with the mean of their scores."""
        group: list[_Word] = []
        for word in words:
            if word.score >= _LEAST:
                if group and (group[-1].kind != word.kind or text[group[-1].end : word.start].strip(" ")):
                    yield _one(group)
                    group = []
                group.append(word)
            elif group:
                yield _one(group)
                group = []
        if group:
            yield _one(group)


def _one(words: list[_Word]) -> Span:
    score = sum(word.score for word in words) / len(words)
    return Span(words[0].start, words[-1].end, words[0].kind, score, "rampart")
