"""The base of every configuration class: nothing unknown, nothing coerced, nothing changed afterwards."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys and wrong types; the docstring under each field is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def threshold(default: Any, **constraints: Any) -> Any:
    """A field that decides about measures and does not change them: another value needs no new measurement."""
    return Field(default, json_schema_extra={"threshold": True}, **constraints)


def measured_part(config: BaseModel) -> dict[str, Any]:
    """The part of a configuration that changes the measures: all fields, at any depth, but those of `threshold`."""
    part: dict[str, Any] = {}
    for name, info in type(config).model_fields.items():
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("threshold"):
            continue
        value = getattr(config, name)
        part[name] = measured_part(value) if isinstance(value, BaseModel) else config.model_dump(mode="json")[name]
    return part
