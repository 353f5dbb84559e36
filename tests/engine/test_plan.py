"""Fingerprints: what changes them, and nothing else does."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.contract import Node, Output, canonical_json
from pipeline.plan import Plan, make_plan

TRAINING = {"sft/train", "evaluate/sft", "evaluate/sft_vs_base"}
TOKENS = TRAINING | {"sft/prepare"}
FILTERED = TOKENS | {"filter", "evaluate/base"}
MEASURED = FILTERED | {"filter/measure"}
ALL = MEASURED | {"model", "data/sample"}


def plan(outputs: Path, *overrides: str) -> Plan:
    return make_plan(validate(RunConfig, compose(["+experiment=smoke", *overrides, f"outputs={outputs}"])))


def fingerprints(outputs: Path, *overrides: str) -> dict[str, str]:
    return {step.node.name: step.node.fingerprint for step in plan(outputs, *overrides).steps}


@pytest.mark.parametrize(
    ("override", "dependent"),
    [
        ("stages.sft.learning_rate=1e-3", TRAINING),
        ("stages.sft.adapter.r=4", TRAINING),
        ("stages.sft.batch_size=4", TRAINING),
        ("stages.sft.max_steps=31", TRAINING),
        ("seed=43", TRAINING),
        ("stages.sft.max_length=128", TOKENS),
        ("stages.filter.steps.language=null", MEASURED),
        ("stages.filter.steps.language.min_score=0.9", FILTERED),
        ("stages.filter.steps.language.field=prompt", MEASURED),
        ("stages.filter.engine.workers=1", set()),
        ("stages.evaluate.generation.max_new_tokens=8", {"evaluate/base", "evaluate/sft", "evaluate/sft_vs_base"}),
        ("stages.evaluate.statistics.resamples=100", {"evaluate/sft_vs_base"}),
        ("stages.evaluate.samples=2", {"evaluate/sft_vs_base"}),
        ("model.dtype=bfloat16", TRAINING | {"evaluate/base"}),
        ("model.scratch.layers=1", TOKENS | {"model", "evaluate/base"}),
        ("data.sample.limit=100", ALL),
        ("data.sample.splits.seed=1", ALL),
        ("stages.sft.micro_batch_size=2", set()),
        ("stages.sft.checkpoint_every=5", set()),
        ("stages.sft.activation_checkpointing=true", set()),
        ("launch=cpu_ranks", set()),
        ("run_id=mine", set()),
        ("lock_wait=1", set()),
        ("mode=plan", set()),
    ],
)
def test_one_field_changes_exactly_the_nodes_behind_it(tmp_path: Path, override: str, dependent: set[str]) -> None:
    before, after = fingerprints(tmp_path), fingerprints(tmp_path, override)
    assert set(before) == ALL
    assert {name for name in before if before[name] != after[name]} == dependent


def test_outputs_do_not_count(tmp_path: Path) -> None:
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b ü")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SECTION = st.dictionaries(st.text(), JSON, min_size=1, max_size=5)


def reversed_keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(SECTION)
def test_the_order_of_keys_does_not_count(identity: dict[str, object]) -> None:
    turned = reversed_keys(identity)
    assert isinstance(turned, dict)
    assert Node("a", "k", 1, {}, identity).fingerprint == Node("b", "k", 1, {"path": "x"}, turned).fingerprint


@given(SECTION, st.data())
def test_every_hashed_part_counts(identity: dict[str, object], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(identity)))
    value = data.draw(JSON.filter(lambda new: canonical_json(new) != canonical_json(identity[key])))
    node, source = Node("a", "k", 1, {}, identity), Node("s", "data", 1, {}, {})
    others = [
        Node("a", "k", 1, {}, {**identity, key: value}),
        Node("a", "k", 2, {}, identity),
        Node("a", "l", 1, {}, identity),
        Node("a", "k", 1, {}, identity, {"rows": Output(source)}),
        Node("a", "k", 1, {}, identity, {"rows": Output(source, "train")}),
        Node("a", "k", 1, {}, identity, {"row": Output(source)}),
    ]
    assert len({node.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_not_a_number_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"prompt": "q{n}", "completion": "a{n}"}}\n' for n in range(40)), encoding="utf-8")
    return file


def of_file(tmp_path: Path, source: Path | str) -> str:
    overrides = ["data=path", f"+data.mine.source='{source}'"]
    return fingerprints(tmp_path / "outputs", *overrides)["data/mine"]


def test_a_renamed_moved_or_touched_file_is_the_same_file(tmp_path: Path, rows: Path) -> None:
    before = of_file(tmp_path, rows)
    os.utime(rows, (1, 1))
    assert of_file(tmp_path, rows) == before
    moved = tmp_path / "else where" / "other.jsonl"
    moved.parent.mkdir()
    shutil.move(rows, moved)
    assert of_file(tmp_path, moved) == before


def test_changed_content_or_kind_is_another_file(tmp_path: Path, rows: Path) -> None:
    before = of_file(tmp_path, rows)
    as_text = rows.with_suffix(".txt")
    shutil.copy(rows, as_text)
    assert of_file(tmp_path, as_text) != before
    rows.write_text(rows.read_text().replace("q0", "Q0"), encoding="utf-8")
    assert of_file(tmp_path, rows) != before


def test_a_glob_is_all_its_files(tmp_path: Path, rows: Path) -> None:
    one = of_file(tmp_path, f"{tmp_path}/*.jsonl")
    assert one == of_file(tmp_path, rows)
    (tmp_path / "second.jsonl").write_text('{"text": "more"}\n', encoding="utf-8")
    assert of_file(tmp_path, f"{tmp_path}/*.jsonl") != one


def test_states_of_new_outputs(tmp_path: Path) -> None:
    assert {step.state for step in plan(tmp_path).steps} == {"new"}
