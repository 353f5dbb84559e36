"""Text of others inside a judge's prompt: it can be read there, and cannot pass for the prompt itself.

Three walls: control tokens of chat templates are broken up, every line is quoted, and the block stands between fences
that carry a code which the text cannot contain, because the code is a hash of the text.
"""

import hashlib
import re
from collections.abc import Sequence

QUOTE = "| "
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Control characters, direction overrides and the invisible "tag" letters; joiners stay, many scripts need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_CONTROL = re.compile(
    r"<\|[^|<>\n]{1,60}\|>"  # ChatML, Llama 3, Phi, GPT
    r"|<｜[^｜<>\n]{1,60}｜>"  # DeepSeek
    r"|</?(?:s|bos|eos|pad|unk|mask|sep|cls|think|thinking|tool_call|tool_response)>"
    r"|<(?:start|end)_of_(?:turn|text|role|message)>|<\|?(?:eot|eom|eos|bos)(?:_id|_token)?\|?>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|BOS|EOS)\]"
    r"|<</?SYS>>",
    re.IGNORECASE,
)
_MIN_SPECIAL = 3


def fence_code(*texts: str) -> str:
    """16 hex digits that none of the texts holds: their own hash. The same texts get the same code."""
    digest, round_ = hashlib.sha256(), 0
    for text in texts:
        digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
    while any((code := digest.hexdigest()[:16]) in text for text in texts):
        round_ += 1
        digest.update(str(round_).encode())
    return code


def neutralise(text: str, specials: Sequence[str] = ()) -> str:
    """The text with every control token broken up by a space and every control character replaced.

    `specials` are the judge's own special tokens, where they are known; the usual ones are always broken up.
    """
    text = _INVISIBLE.sub("\ufffd", _LINE_ENDS.sub("\n", text)).encode("utf-8", "replace").decode()
    text = _CONTROL.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    own = sorted((s for s in specials if len(s.strip()) >= _MIN_SPECIAL), key=len, reverse=True)
    if not own:
        return text
    return re.sub("|".join(map(re.escape, own)), lambda found: f"{found[0][0]} {found[0][1:]}", text)


def without_control(prompt: str) -> str:
    """A rendered prompt without its template's control tokens: what is left reads like the conversation it is."""
    while (shorter := _CONTROL.sub("", prompt)) != prompt:
        prompt = shorter
    return prompt.strip()


def fenced(title: str, text: str, code: str, specials: Sequence[str] = ()) -> str:
    """A block: an opening line, the quoted text, a closing line."""
    safe = neutralise(text, specials)
    lines = "\n".join(QUOTE + line for line in safe.split("\n")) if safe.strip() else f"{QUOTE}(empty)"
    return f"=== {title} {code} ===\n{lines}\n=== END OF {title} {code} ==="
