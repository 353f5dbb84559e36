"""`python -m pipeline.reference`: every setting with its type, default and meaning, from the schema, as Markdown."""

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data_prep.gate import models_in
from pipeline.config import RunConfig
from pipeline.stages import STAGES

HEAD = """\
# Configuration

Made by `python -m pipeline.reference` from the schema; do not edit. Any field is set on the command line by its full
key (`stages.sft.learning_rate=1e-4`) or in a file of `conf/`; an unknown key, a wrong type and a value out of range are
refused before anything starts. Defaults live in the schema: the YAML of an experiment names only what differs.

A field marked † changes the speed, never the result: it is outside every fingerprint.
The names `sft`, `filter`, `evaluate` and `NAME` stand for the names that stages and data sets have in your run.
"""

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_PLACES = {"data": "data.NAME"}
_SPEED_ONLY = {"experiment", "mode", "launch", "outputs", "run_id", "lock_wait", "energy", "tracking"}


def reference() -> str:
    """The whole page: the root, its sections, then each stage kind."""
    parts = [HEAD, "## The run\n", *_section(RunConfig, "", 2)]
    for kind, model in STAGES.items():
        parts += [f"## Stage kind: {kind}\n", f"{_one_line(model.__doc__)}\n", *_section(model, f"stages.{kind}", 2)]
    return "\n".join(parts).rstrip() + "\n"


def _section(model: type[BaseModel], prefix: str, level: int) -> Iterator[str]:
    """A table of the model's fields, then one section for each model among them."""
    rows = [_row(name, info, prefix) for name, info in model.model_fields.items()]
    yield "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows]) + "\n"
    for name, info in model.model_fields.items():
        if name == "stages":
            continue
        for inner in models_in(info.annotation):
            title = _title(_place(prefix, name), inner)
            yield f"{'#' * (level + 1)} {title}\n"
            yield f"{_one_line(inner.__doc__)}\n"
            yield from _section(inner, _place(prefix, name), min(level + 1, 4))


def _row(name: str, info: FieldInfo, prefix: str) -> str:
    extra = info.json_schema_extra
    speed = (isinstance(extra, dict) and extra.get("fingerprint") is False) or (not prefix and name in _SPEED_ONLY)
    speed = speed or prefix in ("launch", "energy", "tracking")
    shown = f"`{info.alias or name}`{' †' if speed else ''}"
    cells = [shown, _type(info, _place(prefix, name)), _default(info), _one_line(info.description)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(info: FieldInfo, place: str) -> str:
    """The type in words, with its range; a section is a link to its table."""
    signed = ((sign, getattr(mark, key, None)) for mark in info.metadata for key, sign in _SIGNS.items())
    bounds = [f"{sign} {bound:g}" for sign, bound in signed if bound is not None]
    return ", ".join([_words(info.annotation, place), *bounds])


def _words(annotation: Any, place: str) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if place == "stages":
        return "a section per stage: " + ", ".join(f"[{kind}](#{slug(f'Stage kind: {kind}')})" for kind in STAGES)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        title = _title(place, annotation)
        return f"[{title}](#{slug(title)})"
    if origin is typing.Annotated:
        return _words(arguments[0], place)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(argument, place) for argument in arguments)
    if origin is list:
        return f"list of {_words(arguments[0], place)}"
    if origin is dict:
        inner = _words(arguments[1], place)
        return inner if inner.startswith("[") else f"name → {inner}"
    return {"Any": "any value", "str": "text", "int": "integer", "float": "number", "bool": "true or false"}[
        annotation.__name__
    ]


def _default(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True)
    if info.is_required():
        return "required"
    if isinstance(default, BaseModel):
        return f"`kind: {default.kind}`" if hasattr(default, "kind") else "its defaults"  # pyright: ignore
    if default is None or isinstance(default, bool):
        return f"`{str(default).lower().replace('none', 'null')}`"
    if isinstance(default, str):
        return f"`{default!r}`" if not default.strip() else f"`{default}`"
    return f"`{default}`"


def _place(prefix: str, name: str) -> str:
    key = f"{prefix}.{name}" if prefix else name
    return _PLACES.get(key, key)


def _title(place: str, model: type[BaseModel]) -> str:
    """`stages.sft.adapter, kind: lora`: the key, and the kind where several models can stand there."""
    kind = model.model_fields.get("kind")
    several = kind is not None and len(typing.get_args(kind.annotation)) == 1
    return f"{place}, kind: {typing.get_args(kind.annotation)[0]}" if kind is not None and several else place


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    print(reference(), end="")
