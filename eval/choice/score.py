"""Score a model on multiple choice: the entry that needs the model. Everything else is computed from its rows.

A row of method likelihood: {"id", "context_sha256", "choices", "log_likelihoods", "greedy", "tokens", "bytes",
"characters", "cut", "gold"[, "group"]}: natural logarithms, whether each token of a choice is the likeliest, scored
tokens, UTF-8 bytes and characters of what is compared (without the space before it), tokens of context that were cut.
A row of method generation: {"id", "context_sha256", "choices", "output", "answer", "finish_reason", "tokens", "gold"
[, "group"]}; `answer` is the index of the choice, None where none could be read.
"""

import hashlib
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.choice.config import ChoiceConfig, ScoringConfig
from eval.choice.encode import Encoded, encode_all, scoring_policy
from eval.choice.items import ChoiceItem
from eval.choice.letters import LETTER_POLICY, read_letter
from eval.choice.prompts import Asked, ask, prompt_of, shots_for
from eval.choice.scoring import can_branch, score_windows
from eval.loading import model_key
from eval.predictions import key_of, predict_resumably
from eval.samples import Sample, choose

Rows = list[dict[str, Any]]
_KEPT_TOGETHER = 64
"""Items whose rows are written at once: the most that a killed run loses."""


def score_choice(
    model: Any,
    tokenizer: Any,
    items: Sequence[ChoiceItem],
    config: ChoiceConfig,
    track: Track = silent,
    shots: Sequence[ChoiceItem] | None = None,
    partial: Path | None = None,
) -> Rows:
    """One row for each chosen item (see above), in the order of a hash of their ids.

    `shots` is the pool of solved examples; None takes the items themselves, each without itself. With `partial`,
    finished rows are kept in that file and a killed call goes on from there.
    """
    asked = asked_items(tokenizer, items, config, shots)
    if config.method == "generation":
        return _generate(model, tokenizer, asked, config, track, partial)
    encoded = encode_all(model, tokenizer, [(one.item.id, one.context, one.continuations) for one in asked], config)
    key = choice_key(model, tokenizer, asked, config) if partial else ""
    by_id = score_encoded(model, encoded, config, key, track, partial)
    return [_likelihood_row(one, by_id[one.item.id]) for one in asked]


def asked_items(
    tokenizer: Any, items: Sequence[ChoiceItem], config: ChoiceConfig, shots: Sequence[ChoiceItem] | None = None
) -> list[Asked]:
    """The chosen items as the model meets them: the same ones however the items are ordered. DataError without any."""
    if not items:
        raise DataError("choice items: none; give at least one item")
    by_id, pool = {item.id: item for item in items}, items if shots is None else shots
    chosen = [by_id[row["id"]] for row in choose([{"id": name} for name in by_id], config.max_rows)]
    return [ask(item, shots_for(item, pool, config), config, tokenizer) for item in chosen]


def choice_key(model: Any, tokenizer: Any, asked: Sequence[Asked], config: ChoiceConfig) -> str:
    """A hash of all that the rows depend on: weights, rendered items, settings."""
    settings = config.model_dump(mode="json", exclude={"batch_size"})
    return key_of(
        model_key(model, tokenizer), len(tokenizer), [[*one.item, one.context, one.compared] for one in asked], settings
    )


def choice_policy(model: Any, tokenizer: Any, config: ChoiceConfig) -> dict[str, Any]:
    """How the items were measured, for the report; what has to be equal for two models that are compared."""
    prompt = prompt_of(config)
    how = LETTER_POLICY if config.method == "generation" else scoring_policy(model, tokenizer, config)
    shots = f"{config.shots} {config.shot_choice}" + (
        f", seed {config.seed}" if config.shot_choice == "sampled" else ""
    )
    return {"prompt": prompt.text, "compares": prompt.compares, "shots": shots, "template": config.template, "how": how}


def score_encoded(
    model: Any,
    encoded: Sequence[Encoded],
    config: ScoringConfig,
    key: str,
    track: Track = silent,
    partial: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """id → {"id", "log_likelihoods", "greedy", "tokens", "cut"}.

    DataError names the item whose logits are not finite.
    """
    ordered = sorted(encoded, key=lambda one: (-one.length, one.id))
    batches = [ordered[start : start + _KEPT_TOGETHER] for start in range(0, len(ordered), _KEPT_TOGETHER)]
    branching = can_branch(model)

    def work(batch: Sequence[Encoded]) -> Rows:
        scores = score_windows(model, [one.windows for one in batch], config.batch_size, branching)
        return [_scored_row(one, found) for one, found in zip(batch, scores, strict=True)]

    if partial is None:
        rows = [row for batch in track(batches, "choosing", total=len(batches)) for row in work(batch)]
    else:
        named = [[(one.id, one) for one in batch] for batch in batches]
        rows = predict_resumably(partial, key, named, work, track, "choosing")
    return {row["id"]: row for row in rows}


def _scored_row(one: Encoded, scores: Sequence[Any]) -> dict[str, Any]:
    for number, score in enumerate(scores):
        if not math.isfinite(score.log_likelihood):
            raise DataError(
                f"item {one.id}: the log-likelihood of choice {number} is {score.log_likelihood}, "
                "the model's logits are not finite; check the weights, or evaluate in float32"
            )
    return {
        "id": one.id,
        "log_likelihoods": [score.log_likelihood for score in scores],
        "greedy": [score.greedy for score in scores],
        "tokens": [len(window.targets) for window in one.windows],
        "cut": one.cut,
    }


def _likelihood_row(one: Asked, scored: dict[str, Any]) -> dict[str, Any]:
    sizes = {
        "bytes": [len(text.encode()) for text in one.compared],
        "characters": [len(text) for text in one.compared],
    }
    return {**_item_part(one), **scored, **sizes}


def _item_part(one: Asked) -> dict[str, Any]:
    digest = hashlib.sha256(one.context.encode()).hexdigest()
    group = {"group": one.item.group} if one.item.group else {}
    return {
        "id": one.item.id,
        "context_sha256": digest,
        "choices": list(one.item.choices),
        "gold": one.item.gold,
        **group,
    }


def _generate(
    model: Any, tokenizer: Any, asked: Sequence[Asked], config: ChoiceConfig, track: Track, partial: Path | None
) -> Rows:
    from eval.config import GenerationConfig
    from eval.generation import generate

    settings = GenerationConfig(max_rows=None, max_new_tokens=config.max_new_tokens, batch_size=config.batch_size)
    samples = [Sample(one.item.id, one.context, one.compared[one.item.gold]) for one in asked]
    with tempfile.TemporaryDirectory() as folder:
        path = partial or Path(folder) / "generation.partial"
        answers = generate(model, tokenizer, samples, settings, config.template, path, track)
    return [
        {
            **_item_part(one),
            **{name: answer[name] for name in ("output", "finish_reason", "tokens")},
            "answer": read_letter(answer["output"], one.item.choices),
        }
        for one, answer in zip(asked, answers, strict=True)
    ]
