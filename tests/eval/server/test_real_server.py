"""SmolLM2 behind `transformers serve` on loopback: the answers of the local engine, and what it cannot do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from eval.config import GenerationConfig
from eval.generation import generate, served_by
from eval.loading import load_model
from eval.samples import Sample, samples_of
from tests.eval.judge.test_judge_real_server import PATIENCE, folder, needs_serving, pytestmark, server  # noqa: F401

pytestmark = [*pytestmark, needs_serving]
QUESTIONS = ["What is the capital of France?", "Add 2 and 2.", "What is a dog?", "Name three colours."]


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[tuple[Any, Any]]:  # noqa: F811
    yield load_model(folder)


@pytest.fixture
def samples(local: tuple[Any, Any]) -> list[Sample]:
    rows = [{"id": f"q{n}", "source": "t", "prompt": text, "completion": "x"} for n, text in enumerate(QUESTIONS)]
    return samples_of(local[1], rows, "chat")


def served(url: str, folder: Path, **more: Any) -> GenerationConfig:  # noqa: F811
    place = {"base_url": url, "served": {"base": str(folder)}, "timeout_seconds": PATIENCE, "concurrency": 2}
    place |= more.pop("server", {})
    return GenerationConfig.model_validate({"engine": "server", "max_new_tokens": 12, "server": place, **more})


def test_greedy_answers_are_those_of_the_local_engine(
    server: str, folder: Path, local: tuple[Any, Any], samples: list[Sample], tmp_path: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked = served(server, folder)
    here = generate(*local, samples, GenerationConfig(max_new_tokens=12), "chat", tmp_path / "here")
    there = generate(*local, samples, asked, "chat", tmp_path / "there")
    for one, other in zip(here, there, strict=True):
        assert {**one, "tokens": 0} == {**other, "tokens": 0}
    note = served_by(*local, samples, asked, "chat")
    assert note["agreement"] == 1.0 and note["probes"] == 4


def test_what_it_cannot_do_is_told(
    server: str, folder: Path, local: tuple[Any, Any], samples: list[Sample], tmp_path: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wanted = served(server, folder, log_probabilities=True, server={"retries": 0})
    with pytest.raises(DataError, match="gives no log-probabilities|1 of 1 prompts have no answer .*HTTP 4"):
        generate(*local, samples[:1], wanted, "chat", tmp_path / "a")
    tokens = served(server, folder, server={"prompts": "tokens", "retries": 0})
    with pytest.raises(DataError, match=r"1 of 1 prompts have no answer \(row q0: HTTP 4"):
        generate(*local, samples[:1], tokens, "chat", tmp_path / "b")
