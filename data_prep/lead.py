"""Keep the beginning of a long column: whole sentences where possible, never half a word.

Leading sentences are the classic strong baseline for news (Nenkova 2005), so what is cut matters least there.
"""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.config import Lead
from data_prep.errors import DataError

# A stop, closing quotes, then the end or a space and a new beginning; CJK stops need no space; a line end also counts.
SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s*$|\s+[\"'“‘(\[]*[A-Z0-9])|[。！？]|(?=\n)", re.UNICODE)


@dataclass
class Shortener:
    """Shortens one column of rows, and counts what it did; `fields` are all the names that column has in a row."""

    fields: tuple[str, ...]
    max_tokens: int
    tokenizer: Any
    shortened: int = 0
    tokens_before: int = 0
    tokens_kept: int = 0

    @property
    def kept_share(self) -> float:
        """Share of the column's tokens that were kept, over all rows so far; 1 when there was nothing to keep."""
        return self.tokens_kept / self.tokens_before if self.tokens_before else 1.0

    def shorten(self, row: MutableMapping[str, Any]) -> None:
        """Shorten the column of one row in place; whatever is no text is left for the adapter to refuse."""
        text = row.get(self.fields[0])
        if not isinstance(text, str):
            return
        # Half a surrogate pair cannot be tokenised; the adapter refuses such a row.
        offsets = self._offsets(text.encode(errors="replace").decode())
        self.tokens_before += len(offsets)
        if len(offsets) <= self.max_tokens:
            self.tokens_kept += len(offsets)
            return
        lead, kept = self._lead(text, offsets)
        row.update(dict.fromkeys(self.fields, lead))
        self.shortened += 1
        self.tokens_kept += kept

    def _lead(self, text: str, offsets: list[tuple[int, int]]) -> tuple[str, int]:
        """The beginning of the text, and its tokens: a cut can join tokens anew, so it is counted afterwards."""
        for limit in range(self.max_tokens, 0, -1):
            end, half = offsets[limit - 1][1], offsets[(limit - 1) // 2][1]
            lead = text[: _last_sentence_end(text, half, end) or _last_word_end(text, end)].rstrip()
            kept = len(self._offsets(lead))
            if kept <= self.max_tokens:
                return lead, kept
        return "", 0

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        return self.tokenizer.encode(text, add_special_tokens=False).offsets


def make_shortener(lead: Lead, fields: tuple[str, ...], tokenizer_file: Path | None, name: str) -> Shortener:
    """A shortener for data set `name` that counts by this tokenizer.json; DataError without one."""
    if tokenizer_file is None:
        raise DataError(
            f"data.{name}.lead: needs the tokenizer of a model to count tokens; choose a model, or lead=null"
        )
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    # tokenizers raises bare Exception for whatever is wrong with the file.
    except Exception as error:
        raise DataError(f"{tokenizer_file}: not a tokenizer.json ({error}); export the tokenizer again") from error
    # A tokenizer.json may carry the truncation and padding of its last use, which would falsify every count.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Shortener(fields, lead.max_tokens, tokenizer)


def _last_sentence_end(text: str, low: int, high: int) -> int:
    """The last sentence end with low ≤ end ≤ high; 0 when there is none."""
    last = 0
    for match in SENTENCE_END.finditer(text):
        if match.end() > high:
            break
        last = match.end()
    return last if last >= low else 0


def _last_word_end(text: str, high: int) -> int:
    """The last word end at or before high; high itself where the text has no spaces (Chinese, Japanese, Thai)."""
    if high >= len(text) or text[high].isspace() or text[high - 1].isspace():
        return high
    spaces = [match.start() for match in re.finditer(r"\s", text[:high])]
    return spaces[-1] if spaces else high
