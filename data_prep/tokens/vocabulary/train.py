"""Train a tokenizer on texts, as a fast tokenizer of transformers. Equal texts in equal order give equal bytes.

WordPiece: Schuster & Nakajima 2012; BPE: arXiv 1508.07909, over bytes: Radford et al. 2019; Unigram: arXiv 1804.10959.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError
from data_prep.tokens.vocabulary.config import SpecialTokens, VocabularyConfig
from data_prep.tokens.vocabulary.unigram import settled

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
DEFAULT_SIZE = 32_000
WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""Words with the space before them, numbers, punctuation, white space: joined, they are the text."""


def train_tokenizer(
    texts: Iterable[str], config: VocabularyConfig, size: int | None = None, context: int | None = None
) -> "PreTrainedTokenizerFast":
    """A tokenizer of at most `config.vocab_size` tokens (else `size`), for sequences of `config.max_length`
    (else `context`). `texts` may be read twice. DataError when there is nothing to train on."""
    from transformers import PreTrainedTokenizerFast

    specials = special_tokens(config)
    wanted = config.vocab_size or size or DEFAULT_SIZE
    _refuse_nothing(texts)
    trained = _TRAIN[config.algorithm](texts, config, specials, wanted)
    _wrap(trained, config.special)
    special = config.special
    names = {"bos": special.bos, "eos": _end(config), "pad": special.pad or _end(config), "mask": special.mask}
    names |= {"cls": special.cls, "sep": special.sep, "unk": None if config.over_bytes else special.unk}
    named = {f"{name}_token": token for name, token in names.items() if token is not None}
    length = config.max_length or context
    return PreTrainedTokenizerFast(
        tokenizer_object=trained,
        extra_special_tokens=[token for token in specials if token not in named.values()],
        chat_template=_template(config),
        clean_up_tokenization_spaces=False,
        **named,
        **({} if length is None else {"model_max_length": length}),
    )


def special_tokens(config: VocabularyConfig) -> list[str]:
    """All special tokens in the order of their ids, each once."""
    special = config.special
    named = [special.pad, special.eos, special.bos, None if config.over_bytes else special.unk]
    named += [special.cls, special.sep, special.mask, *special.more]
    named += CHATML_TOKENS if config.chat_template == "chatml" else ()
    named += [sentinel(index) for index in range(special.sentinels)]
    return list(dict.fromkeys(token for token in named if token is not None))


def sentinel(index: int) -> str:
    """The token that names a gap of span denoising, spelled as T5's."""
    return f"<extra_id_{index}>"


def _end(config: VocabularyConfig) -> str:
    """With ChatML an answer ends with its own token, so that `generate` stops there."""
    return CHATML_TOKENS[1] if config.chat_template == "chatml" else config.special.eos


def _template(config: VocabularyConfig) -> str | None:
    if config.chat_template in (None, "chatml"):
        return CHATML if config.chat_template else None
    file = Path(config.chat_template).expanduser()
    if not file.is_file():
        raise DataError(f"chat_template '{config.chat_template}': neither a file nor `chatml`; give one of the two")
    return file.read_text(encoding="utf-8")


def _refuse_nothing(texts: Iterable[str]) -> None:
    if not any(texts):
        raise DataError("tokenizer: there is no text to train on; check data.NAME.splits and the filter's funnel")


def _byte(texts: Iterable[str], config: VocabularyConfig, specials: list[str], size: int) -> "Tokenizer":
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    _normalise(tokenizer, config)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return tokenizer


def _char(texts: Iterable[str], config: VocabularyConfig, specials: list[str], size: int) -> "Tokenizer":
    return _whole(texts, config, specials, size, r"[\s\S]")


def _word(texts: Iterable[str], config: VocabularyConfig, specials: list[str], size: int) -> "Tokenizer":
    return _whole(texts, config, specials, size, WORDS)


def _whole(texts: Iterable[str], config: VocabularyConfig, specials: list[str], size: int, pattern: str) -> "Tokenizer":
    """Whatever the pattern matches is a token, the most frequent ones first."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token=config.special.unk or ""))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=config.min_frequency, special_tokens=specials, show_progress=False
    )
    return _trained(tokenizer, trainer, texts, config)


def _wordpiece(texts: Iterable[str], config: VocabularyConfig, specials: list[str], size: int) -> "Tokenizer":
    """The trainer numbers the letters inside words in an order that changes from run to run, and breaks ties by number.

    They get the first numbers here, as if they were special; the tokenizer is built anew of what was learned.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    def empty(vocabulary: dict[str, int]) -> "Tokenizer":
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=config.special.unk or ""))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        _normalise(tokenizer, config)
        return tokenizer

    tokenizer = empty({})
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=config.min_frequency,
        special_tokens=[*specials, *_inner_letters(texts, tokenizer)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = empty(tokenizer.get_vocab(with_added_tokens=False))
    learned.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return learned


def _inner_letters(texts: Iterable[str], tokenizer: "Tokenizer") -> list[str]:
    """The letters that words go on with, as WordPiece writes them."""
    found: set[str] = set()
    for text in texts:
        normalised = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised):  # pyright: ignore
            found.update(word[1:])
    return sorted(f"##{letter}" for letter in found)


def _bpe(texts: Iterable[str], config: VocabularyConfig, specials: list[str], size: int) -> "Tokenizer":
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=None if config.over_bytes else config.special.unk))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=config.min_frequency,
        special_tokens=specials,
        initial_alphabet=_alphabet(tokenizer, config),
        show_progress=False,
    )
    return _trained(tokenizer, trainer, texts, config)


def _unigram(texts: Iterable[str], config: VocabularyConfig, specials: list[str], size: int) -> "Tokenizer":
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.Unigram())
    unknown: dict[str, Any] = {} if config.over_bytes else {"unk_token": config.special.unk}
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=specials,
        initial_alphabet=_alphabet(tokenizer, config),
        show_progress=False,
        **unknown,
    )
    return settled(_trained(tokenizer, trainer, texts, config), len(specials))


def _alphabet(tokenizer: "Tokenizer", config: VocabularyConfig) -> list[str]:
    """Give the tokenizer its pre-tokenizer and decoder; the letters it must have from the start."""
    from tokenizers import decoders, pre_tokenizers

    if config.over_bytes:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return []


def _normalise(tokenizer: "Tokenizer", config: VocabularyConfig) -> None:
    from tokenizers import normalizers

    steps = {"nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()]}.get(config.unicode, [])
    steps += [normalizers.Lowercase()] if config.lowercase else []
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)


def _trained(tokenizer: "Tokenizer", trainer: Any, texts: Iterable[str], config: VocabularyConfig) -> "Tokenizer":
    _normalise(tokenizer, config)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wrap(tokenizer: "Tokenizer", special: SpecialTokens) -> None:
    """What `add_special_tokens=True` puts around a text: `[CLS] … [SEP]`, or the beginning token."""
    from tokenizers import processors

    around = [special.cls, special.sep] if special.cls and special.sep else [special.bos]
    tokens = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(around) if token is not None]
    if tokens:
        pieces = [tokens[0][0], "$A", *(token for token, _ in tokens[1:])]
        tokenizer.post_processor = processors.TemplateProcessing(single=pieces, special_tokens=tokens)


_TRAIN: dict[str, Callable[[Iterable[str], VocabularyConfig, list[str], int], "Tokenizer"]] = {
    "byte": _byte,
    "char": _char,
    "word": _word,
    "wordpiece": _wordpiece,
    "bpe": _bpe,
    "unigram": _unigram,
}
