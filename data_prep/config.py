"""How one data set is described: its source, its columns, its splits. Imports only pydantic."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from data_prep.strict import StrictModel

CANONICAL_COLUMNS = (
    "text",
    "prompt",
    "completion",
    "messages",
    "tools",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "conversations",
    "document",
    "summary",
    "chosen",
    "rejected",
    "label",
    "question",
    "choices",
    "answer",
)

Format = Literal[
    "auto",
    "text",
    "labelled",
    "prompt_completion",
    "alpaca",
    "messages",
    "sharegpt",
    "document_summary",
    "preference",
    "hh_rlhf",
    "alpaca_preference",
    "sharegpt_preference",
    "choice_preference",
    "kto",
]


class Splits(StrictModel):
    """The shares of prompts that go to each split; the prompt and the seed decide, never the position in the file."""

    train: float = Field(default=0.8, ge=0, le=1)
    """Share of the prompts that are trained on."""

    validation: float = Field(default=0.1, ge=0, le=1)
    """Share of the prompts that training is watched with."""

    test: float = Field(default=0.1, ge=0, le=1)
    """Share of the prompts that the finished models are measured with."""

    seed: int = 0
    """Another seed gives another split of the same prompts."""

    @model_validator(mode="after")
    def shares_sum_to_one(self) -> Self:
        """Every row goes to exactly one split."""
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, not {total:g}; change one of the three")
        return self


class Lead(StrictModel):
    """Keep only the beginning of a long column, so that prompt and answer fit a small context."""

    field: str = "document"
    """The column that is shortened (its name in the file, or its canonical name)."""

    max_tokens: int = Field(default=160, ge=1)
    """Tokens kept at most, counted by the model's own tokenizer; the cut falls at a sentence end, else at a word."""


class DatasetConfig(StrictModel):
    """One data set under `data:`."""

    source: str = Field(min_length=1)
    """A local path or glob, `package://NAME/PATH` (a file inside an installed package), or a Hub id `org/name`."""

    revision: str | None = None
    """Branch, tag or commit of a Hub data set; only for Hub ids."""

    subset: str | None = None
    """Configuration name of a Hub data set; only for Hub ids."""

    split: str | None = None
    """The split of a Hub data set to read; only for Hub ids, and needed when there is more than one."""

    format: Format = "auto"
    """How the columns are read; `auto` finds it by their names."""

    columns: dict[str, str] = {}
    """Canonical column name → the file's column name, e.g. `{prompt: question, completion: answer}`."""

    prompt: str | None = Field(default=None, min_length=1)
    """Template of the prompt over the row's columns, e.g. `"Translate:\\n\\n{source}"`; literal braces are doubled."""

    wrong: Literal["each", "one"] = "each"
    """With format `choice_preference`: a row for `each` wrong choice, or for `one` that `splits.seed` picks."""

    keep: list[str] = []
    """Columns that are carried along in a row's `meta` and never trained on, e.g. `[url, license, robots]`."""

    only: dict[str, bool | int | float | str] = {}
    """Rows whose columns hold these values, e.g. `{is_bad_source: false}`; the others are left out before anything else
    and counted (`not_asked_for` in stats.json)."""

    role: Literal["train", "eval"] = "train"
    """`eval`: every row goes to the test split, and `splits` is not used."""

    splits: Splits = Splits()
    """How the rows of a `train` data set are shared out."""

    lead: Lead | None = None
    """Shorten one column to its first tokens; null keeps every row whole."""

    on_error: Literal["fail", "skip"] = "fail"
    """Broken lines and rows stop the run (`fail`), or are counted and left out (`skip`)."""

    max_row_bytes: int = Field(default=64 * 2**20, ge=1024)
    """A longer line or row counts as broken and is not parsed."""

    limit: int | None = Field(default=None, ge=1)
    """Keep only so many rows, the first by id (a random but stable sample); for trials."""

    @field_validator("keep")
    @classmethod
    def keep_names_each_column_once(cls, keep: list[str]) -> list[str]:
        """A repeated name is a slip of the pen."""
        for name in keep:
            if keep.count(name) > 1:
                raise ValueError(f"{name} stands there twice; name each column once")
        return keep

    @field_validator("columns")
    @classmethod
    def columns_are_canonical(cls, columns: dict[str, str]) -> dict[str, str]:
        """A mapping to a column that no format reads would be a setting without an effect."""
        unknown = [name for name in columns if name not in CANONICAL_COLUMNS]
        if unknown:
            raise ValueError(f"{unknown[0]} is not a canonical column; allowed are {', '.join(CANONICAL_COLUMNS)}")
        return columns


class MixturePart(StrictModel):
    """How much of one data set goes into a mixture: a share, a number of passes, or a share with a cap on passes."""

    weight: float | None = Field(default=None, gt=0)
    """Share of the rows, relative to the other weights."""

    epochs: float | None = Field(default=None, gt=0)
    """Passes over the data set, such as 0.5 or 2; beside a weight: the most there may be. Alone 1 by default."""


class Mixture(StrictModel):
    """Several data sets as one, deterministic by the seed alone."""

    parts: dict[str, MixturePart] = Field(min_length=1)
    """The data sets by name; their order means nothing."""

    rows: int | None = Field(default=None, ge=1)
    """Training rows of the whole mixture; parts with epochs alone take theirs first, weights share out the rest."""

    stop: Literal["first_exhausted", "all_exhausted"] | None = None
    """Instead of `rows`: as many rows as there are until the first of the weighted data sets has been used up once
    (no row repeats), or until all have been (small ones repeat)."""

    seed: int = 0
    """Another seed gives another order, and other rows where only some are taken."""

    @model_validator(mode="after")
    def weights_know_their_total(self) -> Self:
        """A share of what? And a total without shares would have no effect."""
        weighted = [name for name, part in self.parts.items() if part.weight is not None]
        if weighted and (self.rows is None) == (self.stop is None):
            raise ValueError(f"the weight of {weighted[0]} needs a total: set either rows or stop")
        if not weighted and (self.rows is not None or self.stop is not None):
            raise ValueError("rows and stop share out by weights, but no part has one; give weights, or remove them")
        capped = [name for name in weighted if self.parts[name].epochs is not None]
        if capped and self.stop is not None:
            raise ValueError(f"{capped[0]} has a weight and epochs, which needs rows instead of stop")
        return self
