"""How documents become rows of tokens for pretraining. Imports only pydantic."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.strict import StrictModel

Objective = Literal["causal", "masked", "denoising"]


class CorpusConfig(StrictModel):
    """How documents are cut, packed and corrupted."""

    objective: Objective = "causal"
    """causal: predict the next token (decoders). masked: predict hidden tokens (encoders, arXiv 1810.04805).
    denoising: write what stood in the gaps (encoder–decoders, arXiv 1910.10683)."""
    max_length: int = Field(default=1024, ge=8)
    """Most tokens of a row; longer documents continue in a further row."""
    packing: Literal["concatenate", "best_fit", "none"] = "concatenate"
    """causal: how documents share rows; none sees another. concatenate: one after the other, cut where a row is full.
    best_fit: whole documents where they fit (arXiv 2404.10830). none: one document, or a piece of one, per row, as
    always with the other objectives."""
    rows: Literal["text", "all"] = "text"
    """text: only text rows are allowed. all: prompts, answers and chats count as plain text too, without a template."""
    document_start: bool = True
    """causal: a document starts with the beginning token, else the end token, so that its first word is learned as the
    perplexity measure reads it."""
    corruption: float = Field(default=0.15, gt=0, lt=0.9)
    """masked and denoising: share of the tokens that are hidden."""
    mean_span: float = Field(default=3.0, ge=1)
    """denoising: mean length of a gap, in tokens."""
    copies: int = Field(default=4, ge=1)
    """masked and denoising: each row so many times, with other tokens hidden."""
    preview_rows: int = Field(default=2, ge=0)
    """Rows per split shown in the report."""

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Self:
        causal, fields = self.objective == "causal", CorpusConfig.model_fields
        wrong = {"corruption", "mean_span", "copies"} if causal else {"packing", "document_start"}
        wrong |= {"mean_span"} if self.objective == "masked" else set()
        for name in sorted(name for name in wrong if getattr(self, name) != fields[name].default):
            raise ValueError(f"{name}: has no meaning with objective={self.objective}; remove it")
        return self
