"""The sizes of a model that estimates need, and what of it an adapter reaches."""

from dataclasses import dataclass

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ModelFacts:
    """The sizes that an estimate needs. What a header does not say is None, and taken as in the first Llama."""

    parameters: int
    layers: int
    hidden_size: int
    heads: int
    vocab_size: int
    key_value_heads: int | None = None
    head_size: int | None = None
    intermediate_size: int | None = None
    tied: bool = False
    """Whether embedding and output layer share their weights."""

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """The linear layers of a Llama's block: name → inputs and outputs."""
        head = self.head_size or self.hidden_size // self.heads
        queries, keys = self.heads * head, (self.key_value_heads or self.heads) * head
        width, inner = self.hidden_size, self.intermediate_size or round(8 * self.hidden_size / 3)
        attention = {"q_proj": (width, queries), "k_proj": (width, keys), "v_proj": (width, keys)}
        feed_forward = {"gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}
        return {**attention, "o_proj": (queries, width), **feed_forward}


def targeted(target: str | list[str], layers: dict[str, tuple[int, int]]) -> list[str]:
    """The linear layers that an adapter's target names."""
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    groups = {"attention": attention, "mlp": [name for name in layers if name not in attention]}
    if isinstance(target, str):
        return groups.get(target, list(layers))
    return [name for name in target if name in layers]
