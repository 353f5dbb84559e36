"""Which licences and opt-outs are respected. Imports only pydantic."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.strict import StrictModel, threshold


class License(StrictModel):
    """Drop rows by their licence: SPDX names or others, compared without case; `*` in a rule stands for anything.

    An SPDX expression is understood: `A OR B` is allowed if one of them is, `A AND B` if both are; a list needs all.
    """

    field: str = Field(default="license", min_length=1)
    """The column, which `data.NAME.keep` carries along."""

    allow: list[str] = threshold([])
    """Only these licences, e.g. `[mit, apache-2.0, cc-by-*]`; []: all that are not denied."""

    deny: list[str] = threshold([])
    """None of these licences, e.g. `["*-nc-*"]`."""

    missing: Literal["keep", "drop"] = threshold("drop")
    """What happens to rows without a licence."""


class OptOut(StrictModel):
    """Drop rows whose owner opted out of training: robots directives, or fields that say so."""

    fields: list[str] = Field(default=["robots"], min_length=1)
    """The columns, which `data.NAME.keep` carries along."""

    values: list[str] = threshold(["noai", "noindex", "none", "opt-out", "opt_out", "optout", "true", "yes", "1"])
    """A field opts out when one of its words, keys that are true, or the whole of it is one of these."""

    missing: Literal["keep", "drop"] = threshold("keep")
    """What happens to rows without one of the fields."""


class Consent(StrictModel):
    """Drop rows whose licence or opt-out field forbids their use."""

    license: License | None = None
    """Rules about the licence; null: none."""

    opt_out: OptOut | None = None
    """Rules about opt-outs; null: none."""

    @model_validator(mode="after")
    def something_is_asked_for(self) -> Self:
        """A consent step that asks for nothing would look as if consent had been checked."""
        if self.license is None and self.opt_out is None:
            raise ValueError("neither license nor opt_out is set; set one, e.g. license: {allow: [mit]} or opt_out: {}")
        if self.license and not (self.license.allow or self.license.deny) and self.license.missing == "keep":
            raise ValueError("license allows everything; set allow, deny, or missing: drop")
        repeated = [name for name in self.fields if self.fields.count(name) > 1]
        if repeated:
            raise ValueError(f"the field {repeated[0]} is asked about twice; name each field once")
        return self

    @property
    def fields(self) -> list[str]:
        """All the fields that are asked about."""
        return ([self.license.field] if self.license else []) + (self.opt_out.fields if self.opt_out else [])
