"""Verdicts that need not be asked for again: one JSON line each, appended, whole or ignored. Failures never enter."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.judge.prompts import Question
from eval.judge.replies import Reply


def verdict_key(identity: Mapping[str, Any], template: str, question: Question) -> str:
    """A hash of all that a verdict depends on: who judges, how it is asked, and the texts in their order."""
    payload = json.dumps([dict(identity), template, list(question)], sort_keys=True)
    return hashlib.sha256(payload.encode()).hexdigest()


class VerdictCache:
    """An append-only file of verdicts; several processes may share it, and a torn line costs one verdict."""

    def __init__(self, path: Path):
        self.path = path
        self.known: dict[str, Reply] = {}
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        for line in lines:
            entry = _entry(line)
            if entry is not None:
                self.known[entry[0]] = entry[1]
        # What follows the last line end was torn by a crash: the next verdict must not be glued to it.
        self._torn = bool(lines and lines[-1])

    def get(self, key: str) -> Reply | None:
        """The verdict, if it is known."""
        return self.known.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a verdict; a failure is not kept, so that it is asked again."""
        if reply.failure is not None:
            return
        self.known[key] = reply
        entry = {"key": key, "label": reply.label, "probabilities": reply.probabilities, "rationale": reply.rationale}
        line = ("\n" if self._torn else "") + json.dumps(entry, allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line.encode())
            os.fsync(file.fileno())
        self._torn = False


def _entry(line: bytes) -> tuple[str, Reply] | None:
    try:
        value = json.loads(line)
        key, label = value["key"], value["label"]
        reply = Reply(label=label, probabilities=value.get("probabilities"), rationale=value.get("rationale"))
    except (ValueError, KeyError, TypeError):
        return None
    return (key, reply) if isinstance(key, str) and isinstance(label, str) else None
