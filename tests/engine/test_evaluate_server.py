"""The models of a run, answered for by a server: what is asked, what the report tells, what is refused."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_pipeline
from tests.eval.judge.conftest import Answer, Stub, stub  # noqa: F401

pytestmark = pytest.mark.end_to_end
NAMES = ("org/base", "my-adapter")


def served(url: str, probes: int = 0, concurrency: int = 8) -> tuple[str, ...]:
    names = "served: {base: org/base, sft: my-adapter}, retries: 0"
    place = f"{{base_url: '{url}', {names}, probes: {probes}, concurrency: {concurrency}}}"
    return "stages.evaluate.generation.engine=server", f"stages.evaluate.generation.server={place}"


def answer(body: dict[str, Any]) -> Answer:
    chance = random.Random(body["prompt"] + body["model"])
    text = " ".join(chance.choices(["the", "river", "mill", "counts"], k=5))
    return Answer(body={"choices": [{"text": text, "finish_reason": "stop"}], "model": body["model"]})


def test_base_and_tuned_are_asked_by_their_own_names(
    stub: Stub,  # noqa: F811
    copied: Path,
) -> None:
    stub.default, stub.models = answer, [{"id": "my-adapter", "parent": "org/base", "created": 1}]
    done = run_pipeline(copied, "+experiment=smoke", *served(stub.url))
    assert done.code == 0, done.out + done.err
    prompts = {name: sorted(one["prompt"] for one in stub.requests if one["model"] == name) for name in NAMES}
    assert len(prompts["org/base"]) == 16 and prompts["org/base"] == prompts["my-adapter"]
    policies = done.report["evaluation"]["policies"]["sample"]
    assert policies["generation"].endswith("prompt never cut, by a server")
    assert policies["served"] == {
        "name": "my-adapter", "base_url": stub.url, "listed": {"id": "my-adapter", "parent": "org/base"},
        "agreement": None,
    }  # fmt: skip
    assert policies["served_base"]["name"] == "org/base" and policies["served_base"]["listed"] is None
    assert "org/base" in (done.outputs / "runs" / "latest" / "report.html").read_text(encoding="utf-8")
    asked = len(stub.requests)
    again = run_pipeline(copied, "+experiment=smoke", *served(stub.url, concurrency=2))
    assert again.code == 0 and len(stub.requests) == asked  # how fast it is asked is no other evaluation


def test_a_server_with_other_weights_is_refused(
    stub: Stub,  # noqa: F811
    copied: Path,
) -> None:
    stub.default = answer
    done = run_pipeline(copied, "+experiment=smoke", *served(stub.url, probes=3))
    assert done.code == 3 and "Traceback" not in done.err, done.out + done.err
    assert "evaluate/base: generation.server org/base: answers 3 prompts unlike the weights under test" in done.err
