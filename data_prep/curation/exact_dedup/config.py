"""The settings of exact deduplication. Imports only pydantic."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.strict import StrictModel


class ExactDedup(StrictModel):
    """Keep one of equal rows: one that passes the other steps if there is one, of the test split first, then by id."""

    on: Literal["row", "prompt", "completion", "field"] = "row"
    """What is compared: `row` is everything but id, source and meta; `prompt` of a chat is the turns before the first
    answer; `completion` the answers, or the chosen with the rejected side; of a text row both are the text. `field` is
    one column of meta. A row whose compared part is empty repeats nothing."""

    field: str | None = Field(default=None, min_length=1)
    """With `on: field`: the name of the meta column, e.g. `url`."""

    normalise_url: bool = False
    """With `on: field`: compare URLs without what leads to the same page: case of scheme and host, default port,
    fragment, slash at the end, and the parameters utm_*, gclid, fbclid and msclkid."""

    ignore_case_and_spaces: bool = False
    """Compare casefolded text in which any run of white space is one space."""

    @model_validator(mode="after")
    def field_and_on_belong_together(self) -> Self:
        """A setting that does nothing is a mistake."""
        if self.on == "field" and self.field is None:
            raise ValueError("exact_dedup.on: field needs the name of a meta column; set exact_dedup.field, e.g. url")
        if self.on != "field" and (self.field is not None or self.normalise_url):
            raise ValueError(f"exact_dedup.on: {self.on} compares no field; set on=field, or leave field out")
        return self
