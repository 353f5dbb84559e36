"""Control tokens that somebody typed into a message: text like any other, never control.

A template writes `<|im_end|>` to end a turn; a user who types the same letters must not end one. Before a template is
applied, typed control tokens are replaced by as many private characters, so that no template and no search takes them
for its own; the rendered text gets the letters back, and the places are remembered. The tokenizer then reads a text in
which the template's own tokens wear other names, so that the typed letters can only become ordinary tokens.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from data_prep.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Supplementary Private Use Area B: no text has a use for it, no normalizer or pre-tokenizer knows its characters.
_FIRST = 0x100000
_PRIVATE = re.compile("[\U00100000-\U0010fffd]")

_KEPT = ("role", "type")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """The control tokens of a tokenizer under a chat template, and the private names that stand for them."""

    anywhere: re.Pattern[str] | None
    """Control tokens, also those that the template writes itself; none may come from a user, a system or a tool."""
    special: re.Pattern[str] | None
    """The tokenizer's special tokens. An assistant's answer may well hold others, such as `<think>`."""
    names: dict[str, str]
    """Private name of each token, of equal length, so that offsets stay."""

    def hidden(self, text: str, role: str) -> str:
        """The text with private names for the control tokens typed into it."""
        pattern = self.special if role == "assistant" else self.anywhere
        return pattern.sub(lambda found: self.names[found.group()], text) if pattern else text

    def hidden_in(self, value: Any, role: str) -> Any:
        """A message, a list or a part of one, with `hidden` applied to every text in it but roles and types."""
        if isinstance(value, str):
            return self.hidden(value, role)
        if isinstance(value, list):
            return [self.hidden_in(entry, role) for entry in cast(list[Any], value)]
        if isinstance(value, dict):
            entries = cast(dict[str, Any], value).items()
            return {key: entry if key in _KEPT else self.hidden_in(entry, role) for key, entry in entries}
        return value

    def shown(self, text: str) -> tuple[str, list[Span]]:
        """A text rendered from hidden messages with the typed letters again, and their spans; its length stays."""
        letters = {name[0]: token for token, name in self.names.items()}
        found = re.compile("[" + "".join(letters) + "]") if letters else None
        spans, place = list[Span](), 0
        while found and (start := found.search(text, place)):
            place = start.start() + len(token := letters[start.group()])
            spans.append((start.start(), place))
            text = text[: start.start()] + token + text[place:]
        return text, spans


def refuse_private(messages: object) -> None:
    """DataError for the characters that stand for hidden tokens: with them, a typed token could not be told apart."""
    if _PRIVATE.search(json.dumps(messages, ensure_ascii=False, default=str)):
        raise DataError(
            "holds both a control token typed as text and private characters from U+100000 on; remove the latter"
        )


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> ControlTokens:
    """The control tokens under the tokenizer's chat template as it is now."""
    return _control_tokens(tokenizer, str(tokenizer.chat_template), len(tokenizer))


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: "PreTrainedTokenizerBase", template: str, size: int) -> ControlTokens:
    """`template` and `size` are part of the cache key."""
    added = cast("PreTrainedTokenizerFast", tokenizer).added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}
    written = {token.content for token in added if token.content.strip() and token.content in template}
    every = sorted({token for token in special | written if token.strip()}, key=lambda token: (-len(token), token))
    names = {token: chr(_FIRST + number) * len(token) for number, token in enumerate(every)}
    return ControlTokens(_pattern(every), _pattern([token for token in every if token in special]), names)


def _pattern(tokens: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def disguised(tokenizer: "PreTrainedTokenizerBase", text: str, typed: Sequence[Span]) -> str:
    """The text with private names for the template's own control tokens; typed ones keep their letters."""
    control, parts, place = control_tokens(tokenizer), list[str](), 0
    for start, end in [*typed, (len(text), len(text))]:
        stretch = text[place:start]
        renamed = (
            control.anywhere.sub(lambda found: control.names[found.group()], stretch) if control.anywhere else stretch
        )
        parts += [renamed, text[start:end]]
        place = end
    return "".join(parts)


def disguised_backend(tokenizer: "PreTrainedTokenizerBase", backend: "Tokenizer") -> "Tokenizer":
    """A copy of a tokenizer's backend that knows the control tokens only by their private names, ids unchanged."""
    from tokenizers import Tokenizer

    names = control_tokens(tokenizer).names
    state: dict[str, Any] = json.loads(backend.to_str())
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): number for token, number in model["vocab"].items()}
    else:  # Unigram: a list of pieces and scores
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token") is not None:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    return Tokenizer.from_str(json.dumps(state))
