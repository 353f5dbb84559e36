"""The model card parses as the Hub's own client reads it, says what is bad too, and goes up only when asked."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from pipeline.artifacts import file_sha256
from pipeline.report.card import card, limits
from pipeline.report.load import parse
from tests.conftest import Finished
from tests.report.test_report_security import HOSTILE, hostile_report

SAMPLE = json.loads((Path(__file__).parent / "sample_report.json").read_text("utf-8"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_hubs_client_reads_every_result() -> None:
    read = ModelCard(card(parse(SAMPLE), is_adapter=True))
    data: Any = read.data
    found = {(each.dataset_name, each.metric_type): each.metric_value for each in data.eval_results}
    scores = SAMPLE["evaluation"]["models"]["sft"]
    assert found["xsum", "bits_per_byte"] == scores["perplexity/xsum"]["bits_per_byte"]
    assert len(found) == sum(map(len, scores.values()))
    assert data.library_name == "peft" and data.license == "unknown" and "lora" in data.tags
    assert ModelCard(card(parse(SAMPLE), is_adapter=False)).data.library_name == "transformers"
    assert SAMPLE["verdict"]["sentence"] in read.text and "## Limits" in read.text


def test_a_hub_model_is_named_as_the_base() -> None:
    report = SAMPLE | {"model": SAMPLE["model"] | {"source": "org/base"}}
    assert ModelCard(card(parse(report), is_adapter=True)).data.base_model == "org/base"
    assert ModelCard(card(parse(SAMPLE), is_adapter=True)).data.base_model is None


def test_limits_name_what_became_worse() -> None:
    told = limits(parse(SAMPLE))
    assert told[0].startswith("Worse than the base model: bits per byte on perplexity/general, +0.01")
    assert any("could not be told from no change" in line for line in told)
    assert "nothing is known about whether" in " ".join(limits(parse(SAMPLE | {"evaluation": {}})))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_neither_breaks_the_metadata_nor_becomes_markup(text: str) -> None:
    shown = card(parse(hostile_report(text)), is_adapter=True)
    read = ModelCard(shown)
    assert read.data.license == "unknown"
    body = read.text.split("```")[::2]  # outside of code blocks
    assert not any("<script>" in part or "<img" in part or "<svg" in part for part in body)


@pytest.mark.end_to_end
def test_the_model_folder_holds_card_and_weights(smoke: Finished) -> None:
    folder = smoke.outputs / "runs" / smoke.run / "model"
    weights = folder / "adapter_model.safetensors"
    assert file_sha256(weights) == file_sha256(smoke.artifact("sft/train") / "adapter" / weights.name)
    assert not os.path.isabs(os.readlink(weights))
    measured = smoke.report["evaluation"]["models"]["sft"]
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert results is not None and len(results) == sum(len(metrics) for metrics in measured.values())


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str], dict[str, bytes]]]:
    """Address of a Hub that takes one repository, the paths it was asked for, and the files it got."""
    asked: list[str] = []
    got: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def answer(self, content: Any, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif self.path == "/api/repos/create" and json.loads(body)["name"] == "tuned":
                self.answer({"url": f"http://{self.headers['Host']}/someone/tuned", "id": "someone/tuned"})
            elif self.path == "/api/models/someone/tuned/preupload/main":
                names = [file["path"] for file in json.loads(body)["files"]]
                files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                self.answer({"files": files})
            elif self.path == "/api/models/someone/tuned/commit/main":
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        got[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                self.answer({"commitUrl": f"http://{self.headers['Host']}/c/{COMMIT}", "commitOid": COMMIT})
            else:
                self.answer({"error": "You may not write here"}, 403)

        def do_GET(self) -> None:
            asked.append(self.path)
            self.answer({"id": "someone/tuned", "sha": COMMIT, "siblings": []})

        def log_message(self, format: str, *args: object) -> None:
            """No log on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked, got
    server.shutdown()


def run_with_hub(address: str, outputs: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(outputs / "cache"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_TOKEN": "hf_" + "x" * 30}
    command = [sys.executable, "-m", "pipeline", "+experiment=smoke", f"outputs={outputs}", *overrides]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.end_to_end
def test_model_card_and_report_go_up_only_when_asked(
    hub: tuple[str, list[str], dict[str, bytes]], copied: Path
) -> None:
    address, asked, got = hub
    quiet = run_with_hub(address, copied)
    assert quiet.returncode == 0 and not asked
    done = run_with_hub(address, copied, "push_to_hub=someone/tuned")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Uploaded to {address}/someone/tuned" in done.stdout
    run = (copied / "runs" / "latest").resolve()
    wanted = {"README.md", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"}
    assert wanted | {"report.html", "report.md", "report.json"} <= set(got)
    assert got["report.html"] == (run / "report.html").read_bytes()
    assert got["adapter_model.safetensors"] == (run / "model" / "adapter_model.safetensors").read_bytes()
    assert b"hf_xxx" not in b"".join(got.values())


@pytest.mark.end_to_end
def test_a_hub_that_refuses_leaves_the_run_finished(hub: tuple[str, list[str], dict[str, bytes]], copied: Path) -> None:
    done = run_with_hub(hub[0], copied, "push_to_hub=someone/other")
    assert done.returncode == 4 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: push_to_hub: someone/other: the Hub refused (You may not write here)")
    assert (copied / "runs" / "latest" / "report.html").exists()
    refused = run_with_hub(hub[0], copied, "push_to_hub=https://x/y")
    assert refused.returncode == 2 and refused.stderr.startswith("error: push_to_hub: 'https://x/y'")
