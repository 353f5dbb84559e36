"""The scoring path itself: rows with branches against one choice at a time, batch sizes, BOS, resuming, bad input."""

import copy
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from data_prep.errors import DataError
from eval.choice import scoring
from eval.choice.cloze import ClozeItem, cloze_columns, cloze_items_of, cloze_metrics, score_cloze
from eval.choice.config import ChoiceConfig, ClozeConfig, ScoringConfig
from eval.choice.encode import encode_all, scoring_policy
from eval.choice.items import ChoiceItem
from eval.choice.rows import rows_of
from eval.choice.score import choice_policy, score_choice
from eval.choice.scoring import can_branch, score_windows
from eval.measures.log_likelihood import Window, window_nlls

TOKENS = st.integers(4, 60)
ITEMS = [
    ChoiceItem("a", "the old", ("mill", "river runs", "dogs"), 0),
    ChoiceItem("b", "a", ("fox", "lazy"), 1),
    ChoiceItem("c", "Ein", ("Satz", "Käse", "北", "Satz über"), 1),
]
SHORT = ChoiceConfig(prompt="{question}:")


@st.composite
def questions(draw: Any) -> list[list[Window]]:
    """Items of two to five continuations after a shared context, some of which begin alike."""
    groups = []
    for _ in range(draw(st.integers(1, 4))):
        context = draw(st.lists(TOKENS, min_size=1, max_size=6))
        starts = draw(st.lists(TOKENS, min_size=0, max_size=2))
        windows = []
        for _ in range(draw(st.integers(2, 5))):
            rest = starts + draw(st.lists(TOKENS, min_size=1, max_size=4))
            windows.append(Window(context + rest[:-1], rest))
        groups.append(windows)
    return groups


@settings(max_examples=40, deadline=None)
@given(groups=questions(), batch_size=st.integers(1, 9))
def test_choices_read_together_score_as_if_alone(model: Any, groups: list[list[Window]], batch_size: int) -> None:
    together = score_windows(model, groups, batch_size, branching=True)
    for windows, scores in zip(groups, together, strict=True):
        alone = [-window_nlls(model, [window], 1)[0] for window in windows]
        assert [score.log_likelihood for score in scores] == pytest.approx(alone, rel=1e-5, abs=1e-5)
        for window, score in zip(windows, scores, strict=True):
            logits = model(torch.tensor([window.inputs])).logits[0, -len(window.targets) :]
            assert score.greedy == (logits.argmax(-1).tolist() == window.targets)


@settings(max_examples=60, deadline=None)
@given(groups=questions(), branching=st.booleans(), limit=st.integers(1, 60))
def test_rows_hold_every_window_once(groups: list[list[Window]], branching: bool, limit: int) -> None:
    for windows in groups:
        rows = rows_of(windows, branching, limit)
        parts = [part for row in rows for part in row.scored]
        assert sorted(part.window for part in parts) == list(range(len(windows)))
        for row in rows:
            assert len(row.ids) <= max(limit, max(len(window.inputs) for window in windows))
            for part in row.scored:
                window = windows[part.window]
                last = part.positions[-1]
                seen = [place for place in range(last + 1) if row.branches[place] in (0, row.branches[last])]
                assert [row.ids[place] for place in seen][: len(window.inputs)] == window.inputs
                assert [row.positions[place] for place in seen] == list(range(len(seen)))
                assert part.targets == window.targets
        assert sum(len(row.ids) for row in rows) <= sum(len(window.inputs) for window in windows)


def test_letters_cost_one_row() -> None:
    windows = [Window([1, 5, 6], [token]) for token in (7, 8, 9, 10)]
    assert [row.ids for row in rows_of(windows, False, 1)] == [[1, 5, 6]]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
def test_batch_size_does_not_change_the_numbers(model: Any, tokenizer: Any, batch_size: int) -> None:
    one = score_choice(model, tokenizer, ITEMS, SHORT)
    other = score_choice(model, tokenizer, ITEMS, SHORT.model_copy(update={"batch_size": batch_size}))
    for row, again in zip(one, other, strict=True):
        assert row["log_likelihoods"] == pytest.approx(again["log_likelihoods"], rel=1e-6)
        assert row | {"log_likelihoods": 0} == again | {"log_likelihoods": 0}


def test_a_gpt2_reads_choices_together_and_a_sliding_window_does_not(model: Any, tokenizer: Any) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 0}
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **sizes)).eval()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(**small, num_key_value_heads=1, sliding_window=4, max_position_embeddings=64, **sizes)
    sliding = MistralForCausalLM(config).eval()
    assert (can_branch(model), can_branch(gpt2), can_branch(sliding)) == (True, True, False)
    for each in (gpt2, sliding):
        rows = score_choice(each, tokenizer, ITEMS, SHORT)
        for row, (_, _, windows) in zip(rows, _windows(each, tokenizer, rows), strict=True):
            alone = [-window_nlls(each, [window], 1)[0] for window in windows]
            assert row["log_likelihoods"] == pytest.approx(alone, rel=1e-5)


def _windows(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> list[tuple[Any, Any, list[Window]]]:
    by_id = {item.id: item for item in ITEMS}
    asked = [(row["id"], f"{by_id[row['id']].question}:", [f" {each}" for each in row["choices"]]) for row in rows]
    encoded = encode_all(model, tokenizer, asked, ScoringConfig())
    return [(one.id, one.cut, one.windows) for one in encoded]


def test_a_model_that_fails_the_probe_reads_each_choice_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = scoring._branch_inputs

    def leaky(*arguments: Any) -> dict[str, Any]:
        """A model that ignores the mask, as one with its own would."""
        inputs = real(*arguments)
        return {**inputs, "attention_mask": torch.zeros_like(inputs["attention_mask"]).clone().triu(1) * 0}

    monkeypatch.setattr(scoring, "_branch_inputs", leaky)
    assert not can_branch(model)


def test_memory_that_runs_out_halves_the_batch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [[Window([1, 5, 6], [6, 9]), Window([1, 5, 7], [7, 8])] for _ in range(4)]
    expected = score_windows(model, groups, 8, branching=False)
    real, sizes = scoring._scored_at_once, []

    def short(model: Any, rows: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, rows)

    monkeypatch.setattr(scoring, "_scored_at_once", short)
    found = score_windows(model, groups, 8, branching=False)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    for one, other in zip(itertools.chain(*expected), itertools.chain(*found), strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-6)


def bos_adding(tokenizer: Any) -> Any:
    """The same tokenizer with a BOS before every text, as Llama's."""
    from tokenizers.processors import TemplateProcessing

    made = copy.deepcopy(tokenizer)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", pair="<|im_start|> $A $B", special_tokens=[("<|im_start|>", made.bos_token_id)]
    )
    return made


def test_one_bos_where_the_tokenizer_adds_it(model: Any, tokenizer: Any) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    adding = bos_adding(tokenizer)
    asked = [("a", "the old", [" mill"]), ("b", "<|im_start|>the old", [" mill"]), ("c", "", ["mill"])]
    told = encode_all(model, adding, asked, ScoringConfig())
    plain = encode_all(model, tokenizer, asked, ScoringConfig())
    assert [one.windows[0].inputs.count(1) for one in told] == [1, 1, 1]
    assert [one.windows[0].inputs.count(1) for one in plain] == [0, 1, 1]
    always = encode_all(model, tokenizer, asked, ScoringConfig(bos="always"))
    never = encode_all(model, adding, asked, ScoringConfig(bos="never"))
    assert [one.windows for one in always] == [one.windows for one in told]
    assert [one.windows for one in never] == [one.windows for one in plain]
    harness = HFLM(pretrained=model, tokenizer=adding, batch_size=1, device="cpu")
    requests = [Instance("loglikelihood", {}, ("the old", " mill"), 0)]
    expected = harness.loglikelihood(requests, disable_tqdm=True)[0][0]
    assert score_windows(model, [told[0].windows], 1)[0][0].log_likelihood == pytest.approx(expected, rel=1e-5)


def test_the_policy_is_stated(model: Any, tokenizer: Any) -> None:
    line = scoring_policy(model, bos_adding(tokenizer), ScoringConfig())
    assert "BOS before a context: <|im_start|> (policy tokenizer)" in line and "max length 32, longer refused" in line
    assert "BOS before a context: none" in scoring_policy(model, tokenizer, ScoringConfig(too_long="cut"))
    told = choice_policy(model, tokenizer, ChoiceConfig(task="piqa", shots=3, shot_choice="sampled", seed=4))
    assert told["prompt"] == "Question: {question}\nAnswer:" and told["shots"] == "3 sampled, seed 4"


def test_white_space_that_ends_a_context_is_scored(model: Any, tokenizer: Any) -> None:
    spaced, plain = encode_all(
        model, tokenizer, [("a", "the old ", ["mill"]), ("b", "the old", [" mill"])], ScoringConfig()
    )
    assert spaced.windows == plain.windows


def test_a_border_that_melts_into_one_token_is_scored_from_there(model: Any, tokenizer: Any) -> None:
    melted = next(
        (text[:-1], text[-1])
        for text in ("ruer", "runs", "past", "mill", "the", "er", "ver")
        if len(tokenizer.encode(text)) <= len(tokenizer.encode(text[:-1]))
    )
    one = encode_all(model, tokenizer, [("a", f"the {melted[0]}", [melted[1]])], ScoringConfig())[0]
    whole = tokenizer.encode("the " + "".join(melted))
    assert one.windows[0].targets == whole[-len(one.windows[0].targets) :] and one.windows[0].inputs == whole[:-1]


def test_bad_items_are_named(model: Any, tokenizer: Any) -> None:
    config = ScoringConfig(too_long="cut")
    with pytest.raises(DataError, match="item a: a continuation is empty, so there is nothing to score; drop the item"):
        encode_all(model, tokenizer, [("a", "old", [""])], config)
    with pytest.raises(DataError, match=r"item a: a continuation of \d+ tokens, the model reads 32; drop the item"):
        encode_all(model, tokenizer, [("a", "old", [" z" * 40])], config)
    with pytest.raises(DataError, match="choice items: none; give at least one item"):
        score_choice(model, tokenizer, [], SHORT)
    without = SimpleNamespace(bos_token_id=None)
    with pytest.raises(DataError, match="bos=always: the tokenizer has no BOS token; use bos=tokenizer or bos=never"):
        encode_all(model, without, [], ScoringConfig(bos="always"))
    with pytest.raises(ValidationError, match=r"placeholder \{qestion\}: unknown; allowed are \{question\}"):
        ChoiceConfig(prompt="{qestion} {question}")
    with pytest.raises(ValidationError, match=r"shows neither \{question\} nor \{passage\}"):
        ChoiceConfig(prompt="Say A.")


def test_nan_logits_name_the_item(model: Any, tokenizer: Any) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.lm_head.weight[5] = float("nan")
    with pytest.raises(
        DataError, match="item a: the log-likelihood of choice 0 is nan, the model's logits are not finite"
    ):
        score_choice(broken, tokenizer, ITEMS[:1], SHORT)


def test_a_killed_call_goes_on(model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [ChoiceItem(f"{n:03d}", f"the {n}", ("mill", "fox runs"), n % 2) for n in range(150)]
    expected = score_choice(model, tokenizer, items, SHORT)
    partial, calls = tmp_path / "rows.partial", []

    class Killed(Exception):
        """In the middle of the second batch."""

    def dying(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return score_windows(*arguments, **more)

    monkeypatch.setattr("eval.choice.score.score_windows", dying)
    with pytest.raises(Killed):
        score_choice(model, tokenizer, items, SHORT, partial=partial)
    assert len(partial.read_text().splitlines()) == 1 + 64
    assert score_choice(model, tokenizer, items, SHORT, partial=partial) == expected
    assert len(calls) == 4
    assert json.loads(partial.read_text().splitlines()[0]).keys() == {"key"}


def test_rows_are_the_same_however_the_items_are_ordered(model: Any, tokenizer: Any) -> None:
    config = SHORT.model_copy(update={"max_rows": 2, "shots": 1, "shot_choice": "sampled", "prompt": "{question}"})
    one, other = (score_choice(model, tokenizer, items, config, shots=ITEMS) for items in (ITEMS, ITEMS[::-1]))
    assert one == other and len(one) == 2


def test_cloze_rows(model: Any, tokenizer: Any) -> None:
    items = cloze_items_of([{"text": "the river runs"}, {"context": "the old", "continuation": "mill"}])
    assert items == [ClozeItem("0", "the river", "runs"), ClozeItem("1", "the old", "mill")]
    rows = score_cloze(model, tokenizer, items, ClozeConfig())
    assert {row["word"]: row["bytes"] for row in rows} == {"runs": 4, "mill": 4}
    assert cloze_columns(rows).shape == (2, 3)
    by_hand = [{"greedy": True, "log_likelihood": -1.0}, {"greedy": False, "log_likelihood": -3.0}]
    assert cloze_metrics(by_hand) == {"accuracy": 0.5, "perplexity": pytest.approx(math.exp(2.0))}
    with pytest.raises(DataError, match="item 0: has no context; correct or drop the row"):
        cloze_items_of([{"text": "word"}])
    with pytest.raises(DataError, match="item 0: columns a; allowed are text, or context and continuation"):
        cloze_items_of([{"a": 1}])
