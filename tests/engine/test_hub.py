"""The Hub path, against a Hub of our own on loopback: a branch is pinned to its commit, weights are safetensors."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import Finished

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-llama"

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def hub(smoke: Finished) -> Iterator[tuple[str, list[str]]]:
    """Address of a server that knows one model, the smoke run's, and the paths that it was asked for."""
    folder = smoke.artifact("model") / "model"
    names = [*(file.name for file in folder.iterdir()), "pytorch_model.bin", "evil.pkl"]
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.split("?")[0]
            if path in (f"/api/models/{REPOSITORY}/revision/{name}" for name in ("main", COMMIT)):
                siblings = [{"rfilename": name} for name in names]
                self.answer(200, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode())
            elif path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
                files = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
                self.answer(200, json.dumps(files).encode())
            elif path.startswith(f"/api/models/{REPOSITORY}/revision/"):
                self.answer(404, X_Error_Code="RevisionNotFound")
            elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/"):
                content = (folder / path.rsplit("/", 1)[1]).read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                self.answer(200, content, ETag=etag, X_Repo_Commit=COMMIT)
            else:
                self.answer(404, X_Error_Code="RepoNotFound")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """No log on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def run_with_hub(address: str, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "pipeline", "+experiment=smoke", f"outputs={folder / 'outputs'}", *overrides]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_hub_model_is_pinned_and_trained(hub: tuple[str, list[str]], tmp_path: Path, smoke: Finished) -> None:
    address, asked = hub
    done = run_with_hub(address, tmp_path, f"model={REPOSITORY}")
    assert done.returncode == 0, done.stdout + done.stderr
    finished = Finished(0, done.stdout, done.stderr, tmp_path / "outputs")
    assert not any(path.endswith((".bin", ".pkl")) for path in asked)
    manifest = json.loads((tmp_path / "outputs/runs/latest/manifest.json").read_text(encoding="utf-8"))
    assert manifest["sources"]["model"]["revision"] == COMMIT
    steps = (finished.artifact("sft/train") / "steps.jsonl").read_text(encoding="utf-8")
    assert steps == (smoke.artifact("sft/train") / "steps.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["model=someone/absent"],
            "error: model: no model 'someone/absent' in this folder or on the Hub; check the name",
        ),
        ([f"model={REPOSITORY}", "model.revision=v9"], f"error: model.revision: {REPOSITORY} has no revision 'v9'"),
    ],
)
def test_what_the_hub_does_not_have(
    hub: tuple[str, list[str]], tmp_path: Path, overrides: list[str], expected: str
) -> None:
    done = run_with_hub(hub[0], tmp_path, *overrides)
    assert done.returncode == 2 and done.stderr.startswith(expected)


def test_a_hub_that_is_down(tmp_path: Path) -> None:
    done = run_with_hub("http://127.0.0.1:9", tmp_path, f"model={REPOSITORY}")
    assert done.returncode == 2
    assert f"error: model: '{REPOSITORY}' is no local path, and the Hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
