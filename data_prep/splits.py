"""Stable row ids, and splits that follow from them.

An id is `<8 hex of the prompt side>-<8 hex of the rest>`, both SHA-256; a repeat of the same row gets `#2`, `#3`.
The split is decided by the first half alone, so that one prompt never stands on both sides of an evaluation; the two
answers of a preference row stand in its second half. `meta` is no part of an id.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

from data_prep.config import Splits
from data_prep.rows import SPLITS, Row, shape_of


def prompt_side(row: Row) -> str:
    """What decides a row's split: its text, its prompt, or the turns of a chat before the first answer.

    Only the opening of a chat counts, so that two dialogues that begin alike, and differ later, share a split; and so
    does a preference row whose prompt begins like them.
    """
    shape = shape_of(row)
    if shape == "text":
        return row["text"]
    side = row["messages"] if shape == "chat" else row["prompt"]
    return side if isinstance(side, str) else _json(side[: _first_answer(side)])


def row_id(row: Row) -> str:
    """The id of a row by its content alone, the same in every process; repeats are numbered by `with_ids`."""
    return f"{_digest(prompt_side(row))}-{_digest(_rest(row))}"


def split_of(identity: str, splits: Splits) -> str:
    """The split of the row with this id: a hash of the seed and the id's first half, against the cumulated shares."""
    half = identity.partition("-")[0]
    digest = hashlib.sha256(f"{splits.seed}:{half}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < splits.train:
        return "train"
    return "validation" if position < splits.train + splits.validation or splits.test == 0 else "test"


def with_ids(rows: Iterable[Row], source: str) -> list[Row]:
    """The rows with `id` and `source`, sorted by id, whatever the order they come in."""
    seen: Counter[str] = Counter()
    named = []
    # Different rows of one id are possible (a text, and the same prompt with an empty completion): content decides.
    for row in sorted(rows, key=json.dumps):
        identity = row_id(row)
        seen[identity] += 1
        suffix = f"#{seen[identity]}" if seen[identity] > 1 else ""
        named.append({"id": identity + suffix, "source": source, **row})
    return sorted(named, key=lambda row: row["id"])


def by_split(rows: Iterable[Row], splits: Splits | None) -> dict[str, list[Row]]:
    """The rows of each split; without `splits` every row is a test row."""
    parts: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for row in rows:
        parts[split_of(row["id"], splits) if splits else "test"].append(row)
    return parts


def _rest(row: Row) -> str:
    shape = shape_of(row)
    if shape == "text":
        return ""
    if shape == "chat":
        return _json({"messages": row["messages"][_first_answer(row["messages"]) :], "tools": row.get("tools")})
    if shape == "prompt_completion" and "label" not in row:
        return row["completion"]
    names = ("chosen", "rejected") if shape == "preference" else ("completion", "label")
    rest = {name: row[name] for name in names} | {"tools": row.get("tools")}
    if not isinstance(row["prompt"], str):
        rest["prompt"] = row["prompt"][_first_answer(row["prompt"]) :]
    return _json(rest)


def _first_answer(turns: list[Row]) -> int:
    roles = [turn["role"] for turn in turns]
    return roles.index("assistant") if "assistant" in roles else len(roles)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
