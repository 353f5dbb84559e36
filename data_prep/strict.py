"""The base of every configuration class: nothing unknown, nothing coerced, nothing changed afterwards."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys and wrong types; the docstring under each field is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
