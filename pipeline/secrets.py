"""Secrets stay out of everything that is written: refused in a configuration, blotted out in a recorded difference.

A configuration lands in manifests, reports and bundles, so it has no place for a token: libraries read their own
environment variables.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError

_NAME = r"(?:token|secret|passw(?:or)?d|api_?key|access_?key|private_?key|credential|signature|sig|auth)s?"
_SECRET_VARIABLE = re.compile(rf"(?:^|_){_NAME}(?:_|$)", re.IGNORECASE)
_SHAPES = (
    r"\bhf_[A-Za-z0-9]{16,}",
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_\w{20,}",
    r"\bglpat-[\w-]{16,}",
    r"\bA[KS]IA[0-9A-Z]{16}\b",
    r"\bxox[abprs]-[\w-]{10,}",
    r"\bAIza[\w-]{30,}",
    r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
)
"""How the tokens of common services begin."""
_SHAPED = re.compile("|".join(_SHAPES))
_IN_URL = re.compile(rf"(?<=://)[^/\s@'\"]+:[^/\s@'\"]+(?=@)|(?<=[?&])(?:[\w-]*_)?{_NAME}=[^&\s'\"]+", re.IGNORECASE)
_SHORTEST = 8
"""Shorter values of secret variables are words that stand elsewhere too."""


def _variables() -> list[str]:
    """The values of environment variables whose names tell of a secret, the longest first."""
    values = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST}
    return sorted(values, key=len, reverse=True)


def redacted(text: str) -> str:
    """The text with every secret that can be recognised as `[secret]`."""
    text = _IN_URL.sub("[secret]", _SHAPED.sub("[secret]", text))
    for value in _variables():
        text = text.replace(value, "[secret]")
    return text


def refuse_secrets(values: Any) -> None:
    """Raise ConfigError that names the key, never the value, of a setting that holds a secret."""
    for key, text in _texts(values, ""):
        if redacted(text) != text:
            raise ConfigError(
                f"{key}: holds what looks like a password or token, and every setting is written into the reports; "
                "take it out, and set the environment variable that the library reads (such as HF_TOKEN)"
            )


def _texts(values: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, str):
        yield key, values
    elif isinstance(values, Sequence):
        for index, value in enumerate(values):
            yield from _texts(value, f"{key}[{index}]")
