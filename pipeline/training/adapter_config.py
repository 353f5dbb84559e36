"""What of a model is trained: every weight, some of them, or an adapter beside frozen ones (PEFT's own classes)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_prep.strict import StrictModel

Target = Literal["attention", "mlp", "all-linear"] | list[str]
"""Linear layers: those of the attention, those of the feed-forward blocks, all but the output layer, or by name."""


class NoAdapter(StrictModel):
    """Train every weight of the model."""

    kind: Literal["none"] = "none"
    """Full fine-tuning."""


class FreezeAdapter(StrictModel):
    """Train a part of the model's own weights; the rest stays as it is."""

    kind: Literal["freeze"] = "freeze"
    """Partial fine-tuning. It leaves a whole model, as full fine-tuning does."""
    last_layers: int = Field(default=2, ge=0)
    """How many of the last blocks are trained."""
    modules: list[str] = []
    """More modules to train, by name (`[lm_head, norm]`)."""

    @model_validator(mode="after")
    def _trains_something(self) -> "FreezeAdapter":
        if not self.last_layers and not self.modules:
            raise ValueError("nothing would be trained; raise last_layers or name modules")
        return self


class LowRank(StrictModel):
    """What the low-rank kinds share."""

    r: int = Field(default=16, ge=1)
    """Rank of the update."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale: the update counts alpha / r times."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input. At 0 any number of ranks gives the same losses."""
    target: Target = "all-linear"
    """Which linear layers get an adapter: `attention`, `mlp`, `all-linear`, or their names (`[q_proj, v_proj]`)."""
    rank_pattern: dict[str, int] = {}
    """Another rank for some layers: name, or regular expression of the end of the name → rank."""
    alpha_pattern: dict[str, float] = {}
    """Another alpha for some layers, in the same way."""


class LoraAdapter(LowRank):
    """Low-rank adapters beside frozen weights (Hu et al. 2021, arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"
    """LoRA."""


class QloraAdapter(LowRank):
    """LoRA beside frozen weights of 4 or 8 bit (Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes."""

    kind: Literal["qlora"] = "qlora"
    """QLoRA."""
    quantization: Literal["nf4", "fp4", "int8"] = "nf4"
    """Number format of the frozen weights: 4-bit normal float, 4-bit float, or LLM.int8()."""
    double_quantization: bool = True
    """Quantise the scales of the 4-bit blocks too: 0.37 bit less per weight."""

    @model_validator(mode="after")
    def _scales_of_four_bit(self) -> "QloraAdapter":
        if self.quantization == "int8" and "double_quantization" in self.model_fields_set and self.double_quantization:
            raise ValueError("double_quantization goes with 4 bit; int8 has one scale per row: remove it")
        return self


class DoraAdapter(LowRank):
    """LoRA for the direction of a weight, its magnitude trained apart (Liu et al. 2024, arXiv 2402.09353)."""

    kind: Literal["dora"] = "dora"
    """DoRA."""


class RsloraAdapter(LowRank):
    """LoRA whose update counts alpha / √r times, which keeps high ranks stable (Kalajdzievski 2023, 2312.03732)."""

    kind: Literal["rslora"] = "rslora"
    """Rank-stabilised LoRA."""


class LoraPlusAdapter(LowRank):
    """LoRA whose B matrices learn faster than its A matrices (Hayou et al. 2024, arXiv 2402.12354)."""

    kind: Literal["lora_plus"] = "lora_plus"
    """LoRA+."""
    learning_rate_ratio: float = Field(default=16.0, gt=0)
    """The learning rate of B over that of A."""


class PissaAdapter(LowRank):
    """LoRA that starts from the principal singular vectors of the weights (Meng et al. 2024, arXiv 2404.02948).

    It is saved as a LoRA of twice the rank beside the model's own weights, so that it loads without its start.
    """

    kind: Literal["pissa"] = "pissa"
    """PiSSA."""
    iterations: int | None = Field(default=None, ge=1)
    """Iterations of the randomised singular value decomposition, fast for large models; without it: the exact one."""


class VeraAdapter(StrictModel):
    """Trained scales around random matrices that all layers share (Kopiczko et al. 2023, arXiv 2310.11454)."""

    kind: Literal["vera"] = "vera"
    """VeRA."""
    r: int = Field(default=256, ge=1)
    """Rank of the shared random matrices."""
    initial_scale: float = Field(default=0.1, gt=0)
    """First value of the scales between the matrices."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target: Target = "all-linear"
    """Which linear layers get an adapter."""


class Ia3Adapter(StrictModel):
    """Trained factors for keys, values and feed-forward activations (Liu et al. 2022, arXiv 2205.05638)."""

    kind: Literal["ia3"] = "ia3"
    """(IA)³."""
    target: Target = ["k_proj", "v_proj", "down_proj"]
    """Which linear layers are scaled: their outputs, or in the feed-forward blocks their inputs."""


class PrefixAdapter(StrictModel):
    """Trained keys and values before the first token, in every layer (Li & Liang 2021, arXiv 2101.00190)."""

    kind: Literal["prefix"] = "prefix"
    """Prefix tuning. It cannot be merged: it stays beside the model, and no stage trains on from it."""
    tokens: int = Field(default=20, ge=1)
    """Length of the prefix."""
    projection_size: int | None = Field(default=None, ge=1)
    """Width of a network that makes the prefix while it is trained; without it the prefix is trained directly."""


class PromptAdapter(StrictModel):
    """Trained embeddings before the first token (Lester et al. 2021, arXiv 2104.08691)."""

    kind: Literal["prompt"] = "prompt"
    """Prompt tuning. It cannot be merged: it stays beside the model, and no stage trains on from it."""
    tokens: int = Field(default=20, ge=1)
    """Number of virtual tokens."""
    text: str | None = Field(default=None, min_length=1)
    """The words whose embeddings the virtual tokens start from, repeated or cut; without it: random."""


Adapter = Annotated[
    LoraAdapter
    | QloraAdapter
    | DoraAdapter
    | RsloraAdapter
    | LoraPlusAdapter
    | PissaAdapter
    | VeraAdapter
    | Ia3Adapter
    | PrefixAdapter
    | PromptAdapter
    | FreezeAdapter
    | NoAdapter,
    Field(discriminator="kind"),
]

WHOLE = ("none", "freeze")
"""The kinds that train the model's own weights and leave a whole model."""
VIRTUAL = ("prefix", "prompt")
"""The kinds that put virtual tokens before the text: they cannot be merged into weights."""


def leaves_model(adapter: Adapter) -> bool:
    """Whether a stage with this adapter leaves `model/` (a whole model), and not `adapter/`."""
    return adapter.kind in WHOLE
