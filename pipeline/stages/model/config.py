"""Which model a run starts from."""

import ast
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from data_prep.gate import nearest
from data_prep.strict import StrictModel

VERSION = 1
START_VERSION = 1


class ScratchModel(StrictModel):
    """A small Llama with random weights, and a tokenizer trained on the run's training data (ChatML template)."""

    hidden_size: int = Field(default=64, ge=8)
    """Width of the residual stream; a multiple of `heads`."""
    layers: int = Field(default=2, ge=1)
    """Number of decoder blocks."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    key_value_heads: int = Field(default=2, ge=1)
    """Key and value heads, shared among the attention heads (grouped-query attention)."""
    intermediate_size: int = Field(default=128, ge=8)
    """Width of the SwiGLU feed-forward layer."""
    context: int = Field(default=512, ge=16)
    """Longest sequence, in tokens."""
    vocab_size: int = Field(default=512, ge=300)
    """Tokens of the byte-level BPE tokenizer, special tokens included."""
    seed: int = 0
    """Seed of the random weights."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> "ScratchModel":
        if self.hidden_size % self.heads or self.heads % self.key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}, "
                f"and heads a multiple of key_value_heads {self.key_value_heads}"
            )
        return self


class ModelConfig(StrictModel):
    """`model=` on the command line: a name in conf/model, a folder, a .gguf file or a Hub id."""

    source: str = Field(min_length=1)
    """A folder with safetensors, a `.gguf` file, `package://NAME/FILE.gguf`, a Hub id `org/name`, or `scratch`."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; a branch is resolved to its commit and recorded."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights in training and evaluation."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    """Which attention implementation of transformers runs."""
    trust_remote_code: bool = False
    """Run Python code that a Hub model brings along. Off unless asked for by name."""
    scratch: ScratchModel | None = None
    """With `source: scratch`: shape of a small Llama that brings its own tokenizer."""
    architecture: dict[str, Any] | None = None
    """With `source: scratch`: fields of `pipeline.models` (conf/model/scratch has named ones), or with a `model_type`
    those of that configuration of transformers. A stage of kind tokenizer decides its vocabulary."""

    @model_validator(mode="after")
    def _scratch_is_whole(self) -> "ModelConfig":
        shapes = (self.scratch is not None) + (self.architecture is not None)
        if shapes != (self.source == "scratch"):
            raise ValueError("source: scratch goes together with one of the sections scratch: and architecture:")
        for name in () if self.architecture is None or "model_type" in self.architecture else self.architecture:
            if name not in architecture_fields():
                raise ValueError(f"architecture.{name}: unknown{nearest(name, architecture_fields())}")
        return self

    @property
    def name(self) -> str:
        """The last part of the source: what the report calls the model."""
        return self.source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


@cache
def architecture_fields() -> tuple[str, ...]:
    """The fields of `pipeline.models`, read from its source: importing it would import torch."""
    source = Path(__file__).parents[2] / "models" / "config.py"
    [config] = [
        node
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == "ProvetuneConfig"
    ]
    names = [
        node.target.id for node in config.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return tuple(
        name for name in names if name not in ("model_type", "keys_to_ignore_at_inference") and "plan" not in name
    )
