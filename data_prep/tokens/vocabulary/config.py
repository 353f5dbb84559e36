"""Which tokenizer is trained, or by what an existing one is extended. Imports only pydantic."""

from typing import Literal, Self

from pydantic import Field, model_validator

from data_prep.strict import StrictModel

Algorithm = Literal["byte", "char", "word", "wordpiece", "bpe", "unigram"]


class SpecialTokens(StrictModel):
    """Tokens that stand for no text. They get the first ids, in this order."""

    pad: str | None = "<|pad|>"
    """Fills up short rows of a batch; without it the end token does."""
    eos: str = Field(default="<|endoftext|>", min_length=1)
    """Ends a document, or an answer."""
    bos: str | None = None
    """Starts a document; without it the end token of the one before does."""
    unk: str | None = "<|unk|>"
    """Stands for what the vocabulary cannot spell; a tokenizer over bytes has none."""
    mask: str | None = None
    """Hides a token from a masked language model (`[MASK]`)."""
    cls: str | None = None
    """First token of an encoder's input (`[CLS]`); goes together with `sep`."""
    sep: str | None = None
    """Last token of an encoder's input (`[SEP]`)."""
    sentinels: int = Field(default=0, ge=0)
    """So many `<extra_id_0>`, `<extra_id_1>` …: they name the gaps of span denoising (T5)."""
    more: list[str] = []
    """Further special tokens, such as those of a chat template of your own."""

    @model_validator(mode="after")
    def _each_is_one_token(self) -> Self:
        if (self.cls is None) != (self.sep is None):
            raise ValueError("cls and sep go together: set both, or neither")
        if len(self.more) != len(set(self.more)):
            raise ValueError(f"more: {self.more} names a token twice; name each once")
        return self


class VocabularyConfig(StrictModel):
    """A new tokenizer."""

    algorithm: Algorithm = "bpe"
    """byte: one token per byte. char: one per character. word: one per word. wordpiece (BERT), bpe (GPT, Llama) and
    unigram (T5): pieces of words, learned by their frequency."""
    vocab_size: int | None = Field(default=None, ge=16)
    """Most tokens, special tokens included; without it as many as the model's architecture says. `byte` has 256 and
    the special tokens, whatever stands here."""
    alphabet: Literal["bytes", "characters"] = "bytes"
    """What bpe and unigram begin with. bytes: any text can be spelled and comes back exactly. characters: those of the
    training text; others become the unknown token."""
    min_frequency: int = Field(default=2, ge=1)
    """char, word, wordpiece and bpe: a token must occur so often in the training text."""
    lowercase: bool = False
    """Fold upper into lower case; decoded text is lower case then."""
    unicode: Literal["none", "nfc", "nfkc"] = "none"
    """Unicode normal form of all text."""
    special: SpecialTokens = SpecialTokens()
    """Tokens that stand for no text."""
    chat_template: str | None = None
    """`chatml`, or the path of a Jinja file; without it the tokenizer has none. chatml adds its two tokens."""
    max_length: int | None = Field(default=None, ge=2)
    """Longest sequence that the tokenizer promises to a model; without it the architecture's context."""

    @model_validator(mode="after")
    def _what_is_needed_is_there(self) -> Self:
        if not self.over_bytes and self.special.unk is None:
            raise ValueError(f"special.unk: {self.algorithm} over characters needs an unknown token; set one")
        return self

    @property
    def over_bytes(self) -> bool:
        """Whether every text can be spelled."""
        return self.algorithm == "byte" or (self.algorithm in ("bpe", "unigram") and self.alphabet == "bytes")


class ExtensionConfig(StrictModel):
    """New tokens for a tokenizer that exists, with its model."""

    tokens: list[str] = []
    """These become tokens."""
    learn: int = Field(default=0, ge=0)
    """So many words of the training text become tokens: those that save the most tokens there."""
    min_frequency: int = Field(default=5, ge=1)
    """A learned word must occur so often."""

    @model_validator(mode="after")
    def _something_is_added(self) -> Self:
        if not self.tokens and not self.learn:
            raise ValueError("nothing to add: name tokens, or set learn to a number of words")
        if len(self.tokens) != len(set(self.tokens)) or "" in self.tokens:
            raise ValueError(f"tokens: {self.tokens} holds an empty or a repeated one; name each once")
        return self
