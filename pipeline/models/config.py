"""Every axis of the architecture as one typed Hugging Face configuration; what makes no sense is refused by `rules`.

Shapes in this package: B batch, T query tokens, S key tokens, C hidden size, H heads, K key/value heads, D head size,
E experts, N = B·T tokens, V vocabulary. Sizes are numbers of values, never bytes, unless a name says so.
"""

from typing import Any, ClassVar, Literal

from transformers import PreTrainedConfig

from .parallel import tensor_parallel_plan
from .rules import check, refuse_unknown

Shape = Literal["decoder", "encoder", "encoder_decoder"]
AttentionKind = Literal["multi_head", "multi_query", "grouped_query", "latent"]
Pattern = Literal["full", "sliding", "interleaved", "block_sparse", "low_rank"]
Positions = Literal["learned", "sinusoidal", "rope", "alibi", "t5", "none"]
RopeScaling = Literal["none", "linear", "ntk", "yarn", "llama3"]
FeedForwardKind = Literal[
    "relu", "gelu", "gelu_tanh", "gelu_sigmoid", "silu", "swish", "glu", "reglu", "geglu", "geglu_tanh", "swiglu"
]


class ProvetuneConfig(PreTrainedConfig):
    """One transformer of any of the families; the defaults are a Llama of 2023 (arXiv:2302.13971)."""

    model_type: ClassVar[str] = "provetune"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    shape: Shape = "decoder"
    """Decoder-only, bidirectional encoder, or encoder–decoder with cross-attention."""
    vocab_size: int = 32_000
    hidden_size: int = 512
    intermediate_size: int = 1376
    num_hidden_layers: int = 8
    """Layers; of the decoder where there are two stacks."""
    num_encoder_layers: int | None = None
    """Layers of the encoder of an encoder–decoder; as many as the decoder's when unset."""
    encoder_intermediate_size: int | None = None
    max_position_embeddings: int = 2048
    type_vocab_size: int = 0
    """Segments (BERT's token types); 0: no segment embedding."""

    attention: AttentionKind = "multi_head"
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    """Follows from `attention` for multi_head and multi_query."""
    head_dim: int | None = None
    attention_bias: bool = False
    """Biases of the query, key and value projections."""
    attention_out_bias: bool | None = None
    """Bias of the output projection; as `attention_bias` when unset."""
    attention_scale: float | None = None
    """Factor of the scores; head_dim^-0.5 when unset, 1 in T5."""
    attention_softcap: float | None = None
    """Scores become cap·tanh(scores/cap) (Gemma 2, arXiv:2408.00118)."""
    qk_norm: Literal["none", "head", "l2"] = "none"
    """Norm of queries and keys over the head: learned before RoPE (Qwen 3), without weights after it (Llama 4)."""
    pattern: Pattern = "full"
    """Which keys a query sees; `layer_types` says it layer by layer."""
    layer_types: list[str] | None = None
    """full_attention, sliding_attention or chunked_attention for each (decoder) layer."""
    sliding_window: int | None = None
    """A query sees this many newest keys, itself included."""
    local_per_global: int = 5
    """Of interleaved layers, how many are local before each global one (Gemma 3: 5)."""
    attention_chunk_size: int | None = None
    """Queries of a chunked layer see their own chunk only (Llama 4)."""
    sparse_block_size: int = 64
    sparse_local_blocks: int = 2
    """Blocks that a block sees, itself included (BigBird, arXiv:2007.14062)."""
    sparse_global_blocks: int = 1
    """First blocks that every block sees."""
    low_rank_size: int = 64
    """Keys and values are projected to this many positions (Linformer, arXiv:2006.04768)."""
    nope_temperature_scale: float = 0.0
    """Log growth of the queries of layers without RoPE over every `nope_temperature_floor` tokens (Llama 4)."""
    nope_temperature_floor: int = 8192

    q_lora_rank: int | None = None
    """Rank of the compressed query of latent attention; None: not compressed (arXiv:2405.04434)."""
    kv_lora_rank: int = 512
    """Values of the cached latent per token."""
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128

    positions: Positions = "rope"
    position_offset: int = 0
    """Row of the learned table at position 0 (RoBERTa and BART: 2)."""
    rope_theta: float = 10_000.0
    rope_theta_local: float | None = None
    """Base of the sliding layers, which are never scaled (Gemma 3)."""
    rope_fraction: float = 1.0
    """Part of each head that is rotated (Phi)."""
    rope_pairs: Literal["halves", "interleaved"] = "halves"
    """Which two values of a head turn together: i and i + D/2, or neighbours (DeepSeek, Llama 4)."""
    rope_layers: list[bool] | None = None
    """Layers with RoPE; all when unset (Llama 4 leaves out every fourth)."""
    rope_scaling_kind: RopeScaling = "none"
    rope_factor: float = 1.0
    """How many times the original context."""
    rope_original_context: int | None = None
    rope_low_freq_factor: float = 1.0
    rope_high_freq_factor: float = 4.0
    rope_beta_fast: float = 32.0
    rope_beta_slow: float = 1.0
    rope_attention_factor: float | None = None
    """YaRN's factor of cosine and sine; 0.1·ln(factor) + 1 when unset (arXiv:2309.00071)."""
    relative_buckets: int = 32
    relative_max_distance: int = 128

    norm: Literal["layer", "rms"] = "rms"
    norm_eps: float = 1e-6
    norm_unit_offset: bool = False
    """The weight is stored as its distance from 1 (Gemma)."""
    norm_position: Literal["pre", "post", "sandwich"] = "pre"
    parallel_residual: bool = False
    """Attention and feed-forward read the same normed input (Phi, GPT-J)."""
    embedding_norm: bool = False
    final_norm: bool | None = None
    """Norm after the last layer; unset: unless norms come after each sublayer."""

    feed_forward: FeedForwardKind = "swiglu"
    swish_beta: float = 1.0
    feed_forward_bias: bool = False

    num_experts: int = 0
    """0: dense."""
    experts_per_token: int = 2
    expert_intermediate_size: int | None = None
    shared_experts: int = 0
    """Experts that take every token; they are one feed-forward of as many times the size."""
    expert_layers: list[int] | None = None
    """Layers with experts; all when unset."""
    router_score: Literal["softmax", "sigmoid"] = "softmax"
    router_normalise: bool = True
    """The weights of the chosen experts sum to 1 (Mixtral); Switch keeps the probability (arXiv:2101.03961)."""
    router_scale: float = 1.0
    router_weights_input: bool = False
    """The router's weight multiplies the expert's input, not its output (Llama 4)."""
    router_bias: bool = False
    """A bias for the choice alone, moved after each step against the load (DeepSeek-V3, arXiv:2408.15664)."""
    router_bias_rate: float = 0.001
    router_groups: int = 1
    router_top_groups: int = 1
    router_group_score: Literal["max", "top2"] = "max"
    capacity_factor: float | None = None
    """Tokens beyond factor·N·k/E of an expert are dropped; None: dropless."""
    balance_loss: float = 0.0
    """Coefficient of the load-balance loss."""
    z_loss: float = 0.0
    """Coefficient of the router z-loss (ST-MoE, arXiv:2202.08906)."""

    tie_word_embeddings: bool = False
    embedding_scale: float = 1.0
    logit_scale: float = 1.0
    """Factor of the hidden state before the head (T5: hidden_size^-0.5)."""
    logit_softcap: float | None = None
    lm_head_bias: bool = False
    mlm_transform: bool = False
    """BERT's dense layer, activation and norm before the masked-LM head."""
    pooler: bool = False
    """BERT's dense tanh layer on [CLS]."""
    lm_loss_weight: float = 0.0
    """λ of GPT-1's L_task + λ·L_LM when classifying."""
    multi_token_layers: int = 0
    """Further tokens that are predicted, each by one more layer (DeepSeek-V3, arXiv:2412.19437)."""
    multi_token_loss: float = 0.3

    dropout: float = 0.0
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    scale_residual_init: bool = True
    """Output projections start 1/√(2·layers) as large (GPT-2)."""
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs)
        self.is_encoder_decoder = self.shape == "encoder_decoder"
        if self.num_key_value_heads is None:
            self.num_key_value_heads = 1 if self.attention == "multi_query" else self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.attention_out_bias is None:
            self.attention_out_bias = self.attention_bias
        if self.num_encoder_layers is None:
            self.num_encoder_layers = self.num_hidden_layers
        if self.final_norm is None:
            self.final_norm = self.norm_position != "post"
        if self.layer_types is None:
            self.layer_types = [self._layer_type(layer) for layer in range(self.num_hidden_layers)]
        super().__post_init__(**kwargs)
        check(self)
        self.base_model_tp_plan = tensor_parallel_plan(self)  # pyright: ignore[reportAttributeAccessIssue]

    def _layer_type(self, layer: int) -> str:
        local = self.pattern == "interleaved" and (layer + 1) % (self.local_per_global + 1) != 0
        return "sliding_attention" if self.pattern == "sliding" or local else "full_attention"

    @property
    def lora_target_modules(self) -> list[str]:
        """Names of the linear layers of attention and feed-forward that PEFT adapts."""
        attention = ["q_proj", "k_proj", "v_proj"]
        if self.attention == "latent":
            attention = [*(("q_a_proj", "q_b_proj") if self.q_lora_rank else ("q_proj",)), "kv_a_proj", "kv_b_proj"]
        gate = ["gate_proj"] if self.gated else []
        dense = self.num_experts == 0 or self.shared_experts > 0 or self.expert_layers is not None
        return [*attention, "o_proj", *([*gate, "up_proj", "down_proj"] if dense else [])]

    @property
    def gated(self) -> bool:
        """Whether the feed-forward multiplies by a gate (arXiv:2002.05202)."""
        return self.feed_forward in ("glu", "reglu", "geglu", "geglu_tanh", "swiglu")

    def has_experts(self, layer: int) -> bool:
        """Whether that layer's feed-forward is a mixture."""
        return self.num_experts > 0 and (self.expert_layers is None or layer in self.expert_layers)

    def has_rope(self, layer: int) -> bool:
        """Whether that layer turns its queries and keys."""
        return self.positions == "rope" and (self.rope_layers is None or self.rope_layers[layer])

    def kv_values_per_token(self) -> int:
        """Values that one layer caches for one token: keys and values, or the latent and the shared rotated key."""
        if self.attention == "latent":
            return self.kv_lora_rank + self.qk_rope_head_dim
        assert self.num_key_value_heads is not None and self.head_dim is not None
        return 2 * self.num_key_value_heads * self.head_dim

    def kv_bytes_per_token(self, context: int | None = None, bytes_per_value: int = 2) -> float:
        """Bytes of self-attention cache per token of one sequence, over all layers.

        With `context` (tokens) windows count: the size of the cache at that length, divided by the length. An encoder
        caches nothing. `bytes_per_value` is 2 in bfloat16 and 4 in float32.
        """
        if self.shape == "encoder":
            return 0.0
        assert self.layer_types is not None
        windows = {"sliding_attention": self.sliding_window, "chunked_attention": self.attention_chunk_size}
        kept = 0.0
        for kind in self.layer_types:
            window = windows.get(kind)
            kept += 1.0 if context is None or window is None else min(context, window - 1) / context
        return kept * self.kv_values_per_token() * bytes_per_value
