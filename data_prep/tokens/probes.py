"""Questions that a tokenizer and its chat template answer before any row is tokenised.

What would make a training run worthless is an error; what a person should know is a warning in the audit.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from data_prep.errors import DataError
from data_prep.rows import Row
from data_prep.tokens.answers import RowTemplateError
from data_prep.tokens.masks import IGNORED, Encoded, encode
from data_prep.tokens.template import Rendered, end_of_turn, render
from data_prep.tokens.typed import control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONG = 100_000
_USER: dict[str, Any] = {"role": "user", "content": "Is 2 + 2  four?\n\tNaïve café, 日本 😀"}
_ANSWER: dict[str, Any] = {"role": "assistant", "content": "Yes."}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one probe."""

    name: str
    status: Literal["passed", "warning"]
    text: str


def probe(tokenizer: "PreTrainedTokenizerBase", kind: str) -> list[dict[str, str]]:
    """The findings for the template kind `chat` or `plain`, ready for JSON.

    DataError names what no training run can survive: no end token, an answer that never ends, two beginning tokens,
    typed control tokens that stay control.
    """
    findings = [_padding(tokenizer)]
    try:
        rendered = _probe_text(tokenizer, kind)
    except RowTemplateError as error:
        raise DataError(str(error).removeprefix("row probe: ")) from error
    findings += [_prefix(tokenizer)] if kind == "chat" else []
    encoded = encode(tokenizer, rendered, _LONG)
    findings += [_stops(tokenizer, kind, encoded), _beginning(tokenizer, encoded)]
    findings += [_round_trip(tokenizer, rendered, encoded), *([_typed(tokenizer)] if kind == "chat" else [])]
    return [asdict(finding) for finding in findings]


def _probe_text(tokenizer: "PreTrainedTokenizerBase", kind: str) -> Rendered:
    if kind == "plain":
        row = {"id": "probe", "prompt": _USER["content"], "completion": _ANSWER["content"]}
        return render(tokenizer, row, "plain")
    return render(tokenizer, _row(_USER, _ANSWER))


def _row(*messages: dict[str, Any]) -> Row:
    return {"id": "probe", "messages": list(messages)}


def _padding(tokenizer: "PreTrainedTokenizerBase") -> Finding:
    """Padding needs a token; the masks never look at which."""
    if not tokenizer.eos_token and not tokenizer.pad_token:
        raise DataError(
            "tokenizer: has neither an end token (eos) nor a pad token; set eos_token in its tokenizer_config.json to "
            "the token that ends an answer"
        )
    if not tokenizer.eos_token:
        return Finding("end and pad token", "warning", "no end token (eos): only the end-of-turn token stops an answer")
    if not tokenizer.pad_token:
        return Finding("end and pad token", "warning", f"no pad token: batches are padded with {tokenizer.eos_token}")
    return Finding("end and pad token", "passed", f"end {tokenizer.eos_token}, pad {tokenizer.pad_token}")


def _prefix(tokenizer: "PreTrainedTokenizerBase") -> Finding:
    """Whether an answer reads the same whatever follows it, as it will when the model is used."""
    name = "prefix preserved"
    try:
        short = render(tokenizer, _row(_USER, _ANSWER))
        end = short.supervised[-1][1]
        longer = render(tokenizer, _row(_USER, _ANSWER, _USER, _ANSWER), loss_on="completion")
    except RowTemplateError as error:
        return Finding(name, "warning", f"a second question could not be rendered: {error}")
    if longer.text[:end] == short.text[:end]:
        return Finding(name, "passed", "an answer reads the same whatever follows it")
    return Finding(
        name,
        "warning",
        "the template rewrites an answer once later messages follow: rows with several answers are refused unless "
        "stages.sft.loss_on=completion, or stages.sft.chat_template=trl where TRL has a variant for training",
    )


def _stops(tokenizer: "PreTrainedTokenizerBase", kind: str, encoded: Encoded) -> Finding:
    """Whether the token that ends an answer is one token, and learned."""
    end = end_of_turn(tokenizer, "chat" if kind == "chat" else "plain")
    number = tokenizer.convert_tokens_to_ids(end)
    if number not in [label for label in encoded.labels if label != IGNORED]:
        raise DataError(
            f"tokenizer: {end} ends an answer but is not learned as one token, so the model would never stop; choose "
            "another chat template"
        )
    return Finding("stop token trained", "passed", f"{end} (token {number})")


def _beginning(tokenizer: "PreTrainedTokenizerBase", encoded: Encoded) -> Finding:
    name, bos = "one beginning token", tokenizer.bos_token_id
    if bos is None:
        return Finding(name, "passed", "the tokenizer has no beginning token")
    first = encoded.input_ids[:2]
    if first == [bos, bos]:
        raise DataError(
            f"the chat template begins with {tokenizer.bos_token} twice, which no model has seen; remove one of them"
        )
    if first[:1] != [bos] and tokenizer("a")["input_ids"][:1] == [bos]:
        return Finding(name, "warning", f"the tokenizer begins texts with {tokenizer.bos_token}, the template does not")
    return Finding(name, "passed", f"{tokenizer.bos_token} at the beginning" if first[:1] == [bos] else "none is used")


def _round_trip(tokenizer: "PreTrainedTokenizerBase", rendered: Rendered, encoded: Encoded) -> Finding:
    """Whether ids decode to the text: a model trained on other text than it writes is hard to judge."""
    decoded = tokenizer.decode(encoded.input_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if decoded == rendered.text:
        return Finding("round trip", "passed", "ids decode to exactly the text")
    at = next((at for at, pair in enumerate(zip(rendered.text, decoded, strict=False)) if pair[0] != pair[1]), 0)
    was, became = rendered.text[at : at + 12], str(decoded)[at : at + 12]
    return Finding("round trip", "warning", f"ids do not decode to the text: {was!r} became {became!r}")


def _typed(tokenizer: "PreTrainedTokenizerBase") -> Finding:
    """Whether control tokens typed by a user stay text."""
    name, tokens = "typed control tokens", sorted(control_tokens(tokenizer).names)
    plain, typed = (
        encode(tokenizer, render(tokenizer, _row({"role": "user", "content": text}, _ANSWER)), _LONG).input_ids
        for text in ("a b", "a " + " ".join(tokens) + " b")
    )
    vocabulary = tokenizer.get_vocab()
    control = {vocabulary[token] for token in tokens}
    more = sum(token in control for token in typed) - sum(token in control for token in plain)
    if more:
        raise DataError(f"tokenizer: {more} control tokens typed by a user would become control; use another tokenizer")
    return Finding(name, "passed", f"{len(tokens)} control tokens stay text when a user types them")
