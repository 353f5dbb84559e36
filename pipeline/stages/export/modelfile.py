"""An Ollama Modelfile whose template writes what the chat template writes.

Ollama knows no Jinja, so the pieces around each role's words are read off the rendered template, put together in
Ollama's Go template, and compared with the chat template on whole conversations. Where they differ, the Modelfile says
so and leaves the template out.
"""

import re
from dataclasses import dataclass
from typing import Any

Message = dict[str, str]
WORDS = {"system": "SYSTEMWORDS", "user": "USERWORDS", "assistant": "ASSISTANTWORDS"}
MORE_USER = "MOREUSERWORDS"


@dataclass(frozen=True)
class Pieces:
    """What stands before and after each role's words, and what makes the model answer."""

    around: dict[str, tuple[str, str]]
    prompt: str
    default_system: str | None


def modelfile(tokenizer: Any, gguf: str) -> str:
    """The Modelfile beside a GGUF file of that name."""
    lines = [f"FROM ./{gguf}"]
    pieces = pieces_of(tokenizer)
    if tokenizer.chat_template is None:
        lines.append("# The model has no chat template: it continues text.")
    elif pieces is None:
        lines.append("# The chat template cannot be said in Ollama's language; the GGUF file holds it for llama.cpp.")
    else:
        lines.append(f'TEMPLATE """{go_template(pieces)}"""')
        if pieces.default_system is not None:
            lines.append(f'SYSTEM """{pieces.default_system}"""')
    after_answer = pieces.around["assistant"][1] if pieces else ""
    ends = [token for token in tokenizer.all_special_tokens if after_answer.startswith(token)]
    stops = dict.fromkeys([tokenizer.eos_token, *ends])
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if stop and '"' not in stop]
    return "\n".join(lines) + "\n"


def go_template(pieces: Pieces) -> str:
    """In Ollama's language (Go's text/template), over all messages."""
    branches = []
    for role, (before, after) in pieces.around.items():
        test = f'{{{{ {"else if" if branches else "if"} eq .Role "{role}" }}}}'
        branches.append(f"{test}{before}{{{{ .Content }}}}{after}")
    return "{{ range .Messages }}" + "".join(branches) + "{{ end }}{{ end }}" + pieces.prompt


def written(pieces: Pieces, messages: list[Message]) -> str:
    """What Ollama makes of the template: a default system message comes first where none is given."""
    if pieces.default_system is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": pieces.default_system}, *messages]
    turns = [pieces.around[each["role"]] for each in messages]
    body = "".join(f"{a}{each['content']}{b}" for (a, b), each in zip(turns, messages, strict=True))
    return body + pieces.prompt


def pieces_of(tokenizer: Any) -> Pieces | None:
    """The pieces, when they write what the chat template writes in conversations of every shape; else None."""
    if tokenizer.chat_template is None:
        return None
    chat = [{"role": role, "content": words} for role, words in WORDS.items()]
    more = [*chat, {"role": "user", "content": MORE_USER}]
    try:
        whole, prompted = _rendered(tokenizer, more, False), _rendered(tokenizer, more, True)
        pieces = _cut(whole, prompted, _rendered(tokenizer, chat[1:2], True))
        tried = [more, more[1:], chat[:2], chat[1:2]]
        same = pieces is not None and all(written(pieces, each) == _rendered(tokenizer, each, True) for each in tried)
    except Exception:  # a template may refuse a role by raising what it likes
        return None
    return pieces if same else None


def _rendered(tokenizer: Any, messages: list[Message], prompt: bool) -> str:
    """The chat template's text, without the start token that llama.cpp puts there itself."""
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    return text.removeprefix(tokenizer.bos_token) if _adds_start(tokenizer) else text


def _adds_start(tokenizer: Any) -> bool:
    starts = tokenizer("a")["input_ids"]
    return bool(starts) and starts[0] == tokenizer.bos_token_id


def _cut(whole: str, prompted: str, user_alone: str) -> Pieces | None:
    """Pieces from a system, user, assistant, user conversation, without and with the prompt, and a lone user.

    What follows the words of the last user ends a user's turn, and the rest of what follows the first begins an answer.
    What precedes a lone user's words begins a user's turn, or is a default system message with all around it.
    """
    parts = re.split("|".join([MORE_USER, *WORDS.values()]), whole)
    lone, found, _ = user_alone.partition(WORDS["user"])
    if len(parts) != 5 or not found or not parts[2].startswith(parts[4]):
        return None
    first, after_system, after_user, after_assistant, user_after = parts
    default = None
    user_before = lone
    if not after_system.endswith(lone):
        default = lone.removeprefix(first).removesuffix(after_system)
        user_before = _shared_end(after_system, after_assistant)
    around = {
        "system": (first, after_system.removesuffix(user_before)),
        "user": (user_before, user_after),
        "assistant": (after_user[len(user_after) :], after_assistant.removesuffix(user_before)),
    }
    return Pieces(around, prompted.removeprefix(whole), default)


def _shared_end(one: str, other: str) -> str:
    """The longest end that both have."""
    size = 0
    while size < min(len(one), len(other)) and one[len(one) - size - 1] == other[len(other) - size - 1]:
        size += 1
    return one[len(one) - size :]
