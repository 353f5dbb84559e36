"""The key of the pseudonyms: read from the environment, never written; random streams that it and a value fix."""

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError

if TYPE_CHECKING:
    from data_prep.curation.pii.config import Pii

VARIABLE = "PROVETUNE_PSEUDONYM_KEY"
SHORTEST = 16
_MAKE_ONE = 'make one with python -c "import secrets; print(secrets.token_hex(32))" and keep it'


def read_key(expected_check: str | None = None) -> bytes:
    """The key from the environment.

    Args:
        expected_check: the `key_check` of the key that was used before; another key would give other pseudonyms.

    Raises:
        DataError: there is no key, it is short enough to be guessed from its check value, or it is another one.
    """
    key = os.environ.get(VARIABLE, "")
    if not key:
        raise DataError(f"{VARIABLE}: not set, but stages.filter.steps.pii.action is pseudonym; {_MAKE_ONE}")
    if len(key) < SHORTEST:
        raise DataError(f"{VARIABLE}: {len(key)} characters, at least {SHORTEST} are needed; {_MAKE_ONE}")
    # A value that is not UTF-8 arrives as surrogates; it is a key all the same.
    secret = key.encode("utf-8", "surrogateescape")
    check = key_check(secret)
    if expected_check is not None and not hmac.compare_digest(check, expected_check):
        raise DataError(
            f"{VARIABLE}: another key (check {check}) than the one used before (check {expected_check}); "
            "set that key again, or start with new outputs"
        )
    return secret


def key_check(key: bytes) -> str:
    """A value that tells keys apart and does not give them away: 16 hex digits of HMAC-SHA256."""
    return hmac.new(key, b"provetune pseudonym key check", hashlib.sha256).hexdigest()[:16]


def pii_identity(config: "Pii") -> dict[str, Any]:
    """What decides the findings and stands in no setting: the models. (The key decides about pseudonyms alone.)

    Raises:
        DataError: models are asked for and are not installed.
    """
    if not config.backends:
        return {}
    from data_prep.curation.pii.ner.files import versions

    return {backend: versions(backend) for backend in config.backends}


class Stream:
    """Reproducible draws, fixed by a key and a label: HMAC-SHA256 in counter mode."""

    def __init__(self, key: bytes, *label: str) -> None:
        self._mac = hmac.new(key, "\0".join(label).encode("utf-8", "surrogatepass"), hashlib.sha256)
        self._number = int.from_bytes(self._mac.digest())
        self._room = 1 << 256
        self._count = 0

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1; 64 spare bits keep it even."""
        if self._room < limit << 64:
            more = self._mac.copy()
            self._count += 1
            more.update(self._count.to_bytes(8))
            self._number, self._room = int.from_bytes(more.digest()), 1 << 256
        self._number, drawn = divmod(self._number, limit)
        self._room //= limit
        return drawn

    def one_of(self, choices: str | tuple[str, ...]) -> str:
        """One of the choices."""
        return choices[self.below(len(choices))]

    def digits(self, count: int) -> str:
        """That many digits."""
        return "".join(str(self.below(10)) for _ in range(count))

    def like(self, value: str) -> str:
        """Characters of the same classes: digits, capitals and small letters for such; the rest is kept."""
        return "".join(self._like(each) for each in value)

    def _like(self, character: str) -> str:
        if character.isdigit():
            return str(self.below(10))
        if character.isalpha():
            return self.one_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ" if character.isupper() else "abcdefghijklmnopqrstuvwxyz")
        return character
