"""How the next token is chosen: one kind for each way, each with the settings that it reads. Imports only pydantic."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_prep.strict import StrictModel


class GreedyDecoding(StrictModel):
    """The likeliest token each time."""

    kind: Literal["greedy"] = "greedy"
    """Which kind of decoding this is."""


class BeamDecoding(StrictModel):
    """The likeliest whole answer that a beam search finds."""

    kind: Literal["beam"] = "beam"
    """Which kind of decoding this is."""
    beams: int = Field(default=5, ge=2)
    """Answers that are kept at each step; 1 would be greedy."""
    length_penalty: float = 1.0
    """Log-likelihoods are divided by the length to this power: 0 favours short answers, above 1 long ones."""
    early_stopping: bool = True
    """Stop once `beams` answers are finished; false: go on while a better one could be found."""


class SampleDecoding(StrictModel):
    """A random token by its probability, after what the settings leave of the distribution, in this order."""

    kind: Literal["sample"] = "sample"
    """Which kind of decoding this is."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Logits are divided by it: below 1 sharper, above 1 flatter."""
    top_k: int | None = Field(default=None, ge=2)
    """Keep the so many likeliest (arXiv:1805.04833); null: all."""
    top_p: float | None = Field(default=None, gt=0, lt=1)
    """Keep the likeliest that together make this share (arXiv:1904.09751); null: all."""
    min_p: float | None = Field(default=None, gt=0, le=1)
    """Keep those with at least this share of the likeliest one's probability (arXiv:2407.01082); null: all."""
    seed: int = Field(default=0, ge=0)
    """Each prompt draws from a stream of its own, made from this and the row's id: an answer does not depend on what it
    is batched with, and compared models draw the same numbers."""

    @model_validator(mode="after")
    def one_cut_of_the_tail(self) -> "SampleDecoding":
        """top_p and min_p are two answers to one question, and min_p of 1 leaves nothing to draw."""
        if self.top_p is not None and self.min_p is not None:
            raise ValueError(f"top_p={self.top_p} and min_p={self.min_p} both cut the tail; set one of them to null")
        if self.min_p == 1:
            raise ValueError("min_p=1 keeps only the likeliest token, which is greedy; use kind: greedy")
        return self


class ContrastiveDecoding(StrictModel):
    """Of the likeliest tokens, the one that is likely and least like what was said before (arXiv:2202.06417)."""

    kind: Literal["contrastive"] = "contrastive"
    """Which kind of decoding this is."""
    candidates: int = Field(default=4, ge=2)
    """How many of the likeliest tokens are tried (k); each costs a forward pass, 1 would be greedy."""
    alpha: float = Field(default=0.6, ge=0, le=1)
    """Weight of the likeness against the probability; 0 is greedy."""


DecodingConfig = Annotated[
    GreedyDecoding | BeamDecoding | SampleDecoding | ContrastiveDecoding, Field(discriminator="kind")
]
"""How the next token is chosen."""
