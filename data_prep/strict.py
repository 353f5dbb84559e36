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
    thresholds = {
        name
        for name, info in type(config).model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("threshold")
    }
    plain = config.model_dump(mode="json", exclude=thresholds)
    return {name: _measured(getattr(config, name), value) for name, value in plain.items()}


def _measured(value: Any, plain: Any) -> Any:
    if isinstance(value, BaseModel):
        return measured_part(value)
    if isinstance(value, dict):
        # Keys that are numbers are text in JSON, so the two go side by side.
        return {name: _measured(each, own) for each, (name, own) in zip(value.values(), plain.items(), strict=True)}
    return plain
