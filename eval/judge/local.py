"""A judge that runs here: by the probabilities of its labels, or by what it writes. Torch is loaded when it is asked.

Shapes: B prompts of a batch, T tokens of the longest, V vocabulary.
"""

import hashlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from eval.judge.config import JudgeConfig, LocalJudge
from eval.judge.family import ModelIdentity, identify
from eval.judge.prompts import Question, labels_of, message
from eval.judge.replies import Reply, read_reply

_IDENTIFYING = ("*.safetensors", "*.bin", "config.json", "tokenizer*", "chat_template*", "special_tokens_map.json")


class LocalBackend:
    """A Hugging Face causal model as a judge."""

    def __init__(self, judge: LocalJudge, loaded: tuple[Any, Any] | None = None):
        """`loaded`: a model and its tokenizer that are in memory already, in place of the folder's."""
        self.judge = judge
        self.label_only = judge.scores_labels
        self._loaded = loaded

    @property
    def name(self) -> str:
        """The model's folder or Hub id, and how it judges."""
        return f"{Path(self.judge.model).name} ({self.judge.method})"

    @cached_property
    def folder(self) -> Path:
        """Where the model lies; a Hub id is fetched, or found among what was fetched before."""
        folder = Path(self.judge.model)
        if folder.is_dir():
            return folder
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.judge.model, revision=self.judge.revision))
        except Exception as error:  # a dozen kinds: no network, no such id, a gated model, offline mode
            raise DataError(
                f"judge {self.judge.model}: neither a folder nor to be had from the Hub ({type(error).__name__}); "
                "name a folder that save_pretrained wrote, or a Hub id while online"
            ) from error

    @property
    def identity(self) -> Mapping[str, Any]:
        """Hash of weights and tokenizer, number format, method."""
        return self._identity

    @cached_property
    def _identity(self) -> dict[str, Any]:
        settings = self.judge.model_dump(include={"kind", "method", "dtype"})
        if not self.label_only:
            settings["max_new_tokens"] = self.judge.max_new_tokens
        if self._loaded is not None:
            from eval.loading import weights_key

            return {**settings, "weights": weights_key(self._loaded[0])}
        return {**settings, "weights": _files_sha256(self.folder)}

    @property
    def model(self) -> ModelIdentity:
        """By configuration and name."""
        return identify(self.folder if self._loaded is None else self.judge.model, self.judge.model)

    def ask(self, config: JudgeConfig, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """The longest first, so that memory runs out at once or never."""
        if not questions:
            return
        model, tokenizer = self._model_and_tokenizer()
        prompts = [_prompt(tokenizer, config, question, self.label_only) for question in questions]
        room = self._room(model, tokenizer)
        order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        fitting = [index for index in order if len(prompts[index]) <= room]
        for index in order:
            if len(prompts[index]) > room:
                yield index, Reply(failure=f"prompt of {len(prompts[index])} tokens, the judge's context has {room}")
        size = self.judge.batch_size
        for batch in (fitting[start : start + size] for start in range(0, len(fitting), size)):
            replies = self._answer(model, tokenizer, config, [prompts[index] for index in batch])
            yield from zip(batch, replies, strict=True)

    def _model_and_tokenizer(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from eval.loading import load_model

            self._loaded = load_model(self.folder, dtype=self.judge.dtype)
        return self._loaded

    def _room(self, model: Any, tokenizer: Any) -> int:
        from eval.loading import context_length

        limit = context_length(model, tokenizer) - (4 if self.label_only else self.judge.max_new_tokens)
        if limit < 1:
            raise DataError(
                f"judge {self.name}: max_new_tokens={self.judge.max_new_tokens} leaves no room in its context; lower it"
            )
        return limit

    def _answer(self, model: Any, tokenizer: Any, config: JudgeConfig, prompts: list[list[int]]) -> list[Reply]:
        labels = labels_of(config)
        if self.label_only:
            ids = label_ids(tokenizer, labels)
            rows = label_log_probabilities(model, prompts, ids)
            return [_by_likelihood(labels, row) for row in rows]
        return [read_reply(text, labels, cut) for text, cut in _written(model, tokenizer, prompts, self.judge)]


def label_ids(tokenizer: Any, labels: Sequence[str]) -> list[list[int]]:
    """Tokens of each label behind the prompt; where one begins with another, all end with the end of the text.

    Without that the shorter label would count the longer one's probability as its own.
    """
    space = "" if tokenizer.chat_template else " "
    ids = [tokenizer.encode(space + label, add_special_tokens=False) for label in labels]
    if _nested(ids) and tokenizer.eos_token_id is not None:
        ids = [[*label, tokenizer.eos_token_id] for label in ids]
    if not all(ids) or _nested(ids):
        raise DataError(
            f"judge labels {', '.join(labels)}: this tokenizer cannot tell them apart; use method: generate"
        )
    return ids


def label_log_probabilities(model: Any, prompts: Sequence[list[int]], labels: Sequence[list[int]]) -> list[list[float]]:
    """log P(label | prompt) for each prompt and label: the sum over the label's tokens, float32 softmax, float64 sums.

    One pass gives the first token of all labels; only labels of several tokens cost more.
    """
    first = _last_log_softmax(model, prompts)  # (B, V)
    result = [[0.0] * len(labels) for _ in prompts]
    for column, label in enumerate(labels):
        total = first[:, label[0]].double()
        for position in range(1, len(label)):
            rest = _last_log_softmax(model, [[*prompt, *label[:position]] for prompt in prompts])
            total = total + rest[:, label[position]].double()
        for row, value in enumerate(total.tolist()):
            result[row][column] = value
    return result


def _last_log_softmax(model: Any, prompts: Sequence[list[int]]) -> Any:
    """(B, V) in float32: of the next token. Padded on the right without a mask: no causal position sees the padding."""
    import torch

    length = max(map(len, prompts))
    ids_BT = torch.zeros((len(prompts), length), dtype=torch.long)
    last_BT = torch.zeros((len(prompts), length), dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids_BT[row, : len(prompt)] = torch.tensor(prompt)
        last_BT[row, len(prompt) - 1] = True
    ids_BT, last_BT = ids_BT.to(model.device), last_BT.to(model.device)
    inside = type(model).__module__.startswith("transformers.")
    with torch.inference_mode():
        if inside and "logits_to_keep" in inspect.signature(model.forward).parameters:
            logits_BV = model(input_ids=ids_BT, use_cache=False, logits_to_keep=last_BT).logits
            logits_BV = logits_BV.reshape(len(prompts), -1)
        else:
            logits_BV = model(input_ids=ids_BT, use_cache=False).logits[last_BT]
        return torch.log_softmax(logits_BV.float(), dim=-1)


def _by_likelihood(labels: Sequence[str], log_probabilities: Sequence[float]) -> Reply:
    """The labels' probabilities, normalised over the labels; NaN logits are a failure."""
    if not all(math.isfinite(value) for value in log_probabilities):
        return Reply(failure="the judge's logits are not finite numbers")
    highest = max(log_probabilities)
    weights = [math.exp(value - highest) for value in log_probabilities]
    total = math.fsum(weights)
    probabilities = {label: weight / total for label, weight in zip(labels, weights, strict=True)}
    return Reply(label=max(probabilities, key=lambda label: probabilities[label]), probabilities=probabilities)


def _prompt(tokenizer: Any, config: JudgeConfig, question: Question, label_only: bool) -> list[int]:
    text = message(config, question, label_only, specials=tokenizer.all_special_tokens)
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return tokenizer.encode(rendered, add_special_tokens=False)
    return tokenizer.encode(f"{text}\n\nVerdict:")


def _written(model: Any, tokenizer: Any, prompts: list[list[int]], judge: LocalJudge) -> list[tuple[str, bool]]:
    """What the judge writes, greedily, and whether its length limit ended it."""
    import torch
    from transformers import GenerationConfig

    own = model.generation_config.eos_token_id
    stops = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=judge.max_new_tokens,
        eos_token_id=sorted(stops) or None,
        pad_token_id=tokenizer.pad_token_id,
    )
    inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    with torch.inference_mode():
        output = model.generate(**inputs, generation_config=settings)
    answers = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [
        (tokenizer.decode(answer, skip_special_tokens=True), not any(token in stops for token in answer))
        for answer in answers
    ]


def _nested(ids: Sequence[list[int]]) -> bool:
    """Whether one label's tokens are the beginning of another's."""
    return any(one == other[: len(one)] for i, one in enumerate(ids) for j, other in enumerate(ids) if i != j)


def _files_sha256(folder: Path) -> str:
    """A hash of everything in a model folder that decides what the model says."""
    paths = sorted({path for pattern in _IDENTIFYING for path in folder.glob(pattern)})
    if not any(path.suffix in (".safetensors", ".bin") for path in paths):
        raise DataError(f"judge {folder}: holds no weights; name a folder that save_pretrained wrote")
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
