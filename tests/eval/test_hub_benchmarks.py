"""The benchmarks that come from the Hub, against a Hub of our own on loopback that holds data sets laid out as theirs.

Their ids, configurations, splits and columns are those that lm-evaluation-harness reads them by, or those of their
cards; the rows are written for this test.
"""

import importlib.resources
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from eval.predictions import read_predictions

pytestmark = pytest.mark.end_to_end

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def parquet(rows: list[dict[str, Any]]) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), written)
    return written.getvalue()


def card(**configurations: dict[str, str]) -> bytes:
    """The head of a README that names the files of each configuration."""
    listed = [
        {"config_name": name.replace("__", "-"), "data_files": [{"split": s, "path": p} for s, p in files.items()]}
        for name, files in configurations.items()
    ]
    return f"---\n{yaml.safe_dump({'configs': listed})}---\n".encode()


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


PROBLEM = {"question": "Ann has 3 pens and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}
WMT = {"lp": "en-de_DE", "domain": "news", "document_id": "d", "segment_id": 1, "original_target": "x"}
HELD: dict[str, dict[str, bytes]] = {
    "openai/gsm8k": {
        "README.md": card(
            main={"train": "main/train-*", "test": "main/test-*"},
            socratic={"train": "socratic/train-*", "test": "socratic/test-*"},
        ),
        "main/train-00000-of-00001.parquet": parquet([{**PROBLEM, "question": "a row of train"}]),
        "main/test-00000-of-00001.parquet": parquet([PROBLEM, {**PROBLEM, "question": "Ann has 2 and buys 5."}]),
        "socratic/train-00000-of-00001.parquet": parquet([{**PROBLEM, "question": "a row of socratic"}]),
        "socratic/test-00000-of-00001.parquet": parquet([{**PROBLEM, "question": "a row of socratic"}]),
    },
    "EleutherAI/lambada_openai": {
        "README.md": card(default={"test": "data/default.jsonl"}, de={"test": "data/de.jsonl"}),
        "data/default.jsonl": jsonl([{"text": "He came back to the mill"}]),
        "data/de.jsonl": jsonl([{"text": "Er kam zur Mühle"}]),
    },
    "google/wmt24pp": {
        "README.md": card(en__de_DE={"train": "en-de_DE.jsonl"}, en__cs_CZ={"train": "en-cs_CZ.jsonl"}),
        "en-de_DE.jsonl": jsonl(
            [
                {**WMT, "is_bad_source": False, "source": "The dog is lazy.", "target": "Der Hund ist faul."},
                {**WMT, "is_bad_source": True, "source": "CANARY", "target": "KANARIENVOGEL"},
            ]
        ),
        "en-cs_CZ.jsonl": jsonl([{**WMT, "is_bad_source": False, "source": "The dog.", "target": "Pes."}]),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    class Hub(BaseHTTPRequestHandler):
        def send(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_GET(self) -> None:
            path = unquote(self.path.split("?")[0])
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked = json.loads(sent) if sent.startswith("{") else parse_qs(sent)
            for name, files in HELD.items():
                rest = path.removeprefix(f"/api/datasets/{name}")
                if rest in ("", *(f"/revision/{each}" for each in ("main", COMMIT))):
                    siblings = [{"rfilename": file} for file in files]
                    return self.send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
                if rest != path and rest.startswith(("/tree/", "/paths-info/")):
                    below = rest.split("/", 3)[3] if rest.count("/") > 2 else ""
                    wanted = asked.get("paths") if rest.startswith("/paths-info/") else None
                    return self.send(200, json.dumps(listing(files, below, wanted)).encode())
                for revision in ("main", COMMIT):
                    file = path.removeprefix(f"/datasets/{name}/resolve/{revision}/")
                    if file in files:
                        content = files[file]
                        return self.send(200, content, ETag=f'"{hash(content)}"', X_Repo_Commit=COMMIT)
            self.send(404, X_Error_Code="EntryNotFound" if "/resolve/" in path else "RepoNotFound")

        do_HEAD = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """No log on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def listing(files: dict[str, bytes], below: str, wanted: list[str] | None) -> list[dict[str, Any]]:
    """Files and folders as the Hub's `tree` and `paths-info` answer."""
    folders = dict.fromkeys(name.rpartition("/")[0] for name in files if "/" in name)
    sizes = {name: ("file", len(content)) for name, content in files.items()} | {
        name: ("directory", 0) for name in folders
    }
    return [
        {"type": kind, "path": name, "size": size, "oid": "0" * 40}
        for name, (kind, size) in sizes.items()
        if (name in wanted if wanted is not None else name.rpartition("/")[0] == below)
    ]


@pytest.fixture
def saved(model: Any, tokenizer: Any, tmp_path: Path) -> Path:
    tokenizer.save_pretrained(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return tmp_path / "model"


def test_rows_come_as_the_cards_say(hub: str, saved: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    out = tmp_path / "out"
    settings = [f"model={saved}", "tasks=[gsm8k,lambada,wmt24pp]", f"output={out}", "energy=null", "template=plain"]
    short = ["settings.gsm8k.max_new_tokens=4", "settings.gsm8k.template=plain", "generation.max_new_tokens=4"]
    command = [sys.executable, "-m", "eval", *settings, *short, "perplexity=null"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    problems = read_predictions(out / "model/gsm8k", "gsm8k", "reasoning")
    assert {row["reference"][-1] for row in problems} == {"7"} and len(problems) == 2
    assert all("Ann has" in row["prompt"] for row in problems)  # of the configuration main, of its split test
    assert [row["word"] for row in read_predictions(out / "model/lambada", "lambada", "cloze")] == ["mill"]
    translated = read_predictions(out / "model/wmt24pp", "wmt24pp", "generation")
    assert [row["reference"] for row in translated] == ["Der Hund ist faul."]  # without those that its card calls bad
    assert all(row["prompt"].startswith("Translate into German.") for row in translated)


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
@pytest.mark.parametrize(("name", "file"), [("gsm8k", "gsm8k/gsm8k"), ("lambada", "lambada/lambada_openai")])
def test_ids_are_those_of_the_harness(name: str, file: str) -> None:
    class Loader(yaml.SafeLoader):
        """Passes over the functions that task files name."""

    Loader.add_multi_constructor("!", lambda *_: None)
    text = (importlib.resources.files("lm_eval") / "tasks" / f"{file}.yaml").read_text("utf-8")
    theirs = yaml.load(text, Loader)  # noqa: S506 (a safe loader)
    ours = yaml.safe_load((importlib.resources.files("conf") / "benchmark" / f"{name}.yaml").read_text())["data"][name]
    assert (ours["source"], ours["subset"]) == (theirs["dataset_path"], theirs["dataset_name"])
    assert ours["split"] == theirs["test_split"]
    for column in ours.get("columns", {"text": "text"}).values():
        assert f"{{{{{column}" in theirs["doc_to_text"] + theirs["doc_to_target"]
