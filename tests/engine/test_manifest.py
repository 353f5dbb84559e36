"""The manifest is complete and holds no secret, whatever the environment, the repository and the configuration hold."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import file_sha256, read_json
from pipeline.errors import ConfigError
from pipeline.secrets import redacted, refuse_secrets
from tests.conftest import Finished, run_pipeline

# made up, in pieces: whoever scans this repository for tokens must find none
HUB = "hf_" + "abcdefghijklmnopqrstuvwx"
PLANTED = {
    "HF_TOKEN": HUB,
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIxK7MDENGbPxRfiCYEXAMPLEKEY",
    "OPENAI_API_KEY": "sk-" + "proj-planted-0123456789",
    "MY_PASSWORD": "correct horse battery",
}
IN_URL = "planted-url-password"


@pytest.mark.end_to_end
def test_everything_is_in_it(smoke: Finished) -> None:
    manifest = read_json(smoke.outputs / "runs" / smoke.run / "manifest.json")
    assert manifest["command"].startswith("python -m pipeline +experiment=smoke outputs=")
    assert manifest["status"] == "complete" and set(manifest["outcomes"].values()) == {"ran"}
    assert manifest["config"]["stages"]["sft"]["learning_rate"] == 0.005
    assert manifest["seeds"] == {
        "stages.evaluate.statistics.seed": 0,
        "model.scratch.seed": 0,
        "data.sample.splits.seed": 0,
        "seed": 42,
    }
    assert manifest["numerics"] == {"dtype": "float32", "attention": "sdpa"}
    model = smoke.artifact("model") / "model"
    assert manifest["model"]["weights"] == {"model.safetensors": file_sha256(model / "model.safetensors")}
    assert manifest["model"]["tokenizer"] == {"tokenizer.json": file_sha256(model / "tokenizer.json")}
    assert manifest["model"]["template_sha256"] == file_sha256(model / "chat_template.jinja")
    assert manifest["data"]["sample"] == {
        split: file_sha256(smoke.artifact("filter") / "sample" / f"{split}.jsonl")
        for split in ("train", "validation", "test")
    }
    torch = importlib.metadata.distribution("torch")
    record = hashlib.sha256((torch.read_text("RECORD") or "").encode()).hexdigest()
    assert manifest["packages"]["torch"] == {"version": torch.version, "files_sha256": record}
    environment = manifest["environment"]
    assert {"python", "platform", "cpu", "cores", "memory_bytes", "gpus", "threads", "packages"} <= set(environment)
    assert environment["deterministic"] is True and environment["determinism"]["OMP_NUM_THREADS"] == "1"
    assert len(environment["source_sha256"]) == 64 and set(environment["git"] or {}) <= {
        "commit",
        "dirty",
        "diff_sha256",
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with a remote that holds a password and uncommitted tokens."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "settings.py").write_text("learning_rate = 1\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        [*identity, "commit", "-qm", "first"],
        ["remote", "add", "origin", f"https://user:{IN_URL}@example.org/x.git"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    lines = [f"{name} = {value!r}" for name, value in PLANTED.items()]
    lines.append(f"url = 'https://user:{IN_URL}@example.org/?access_token={IN_URL}'")
    (folder / "settings.py").write_text("learning_rate = 2\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.end_to_end
def test_planted_secrets_are_nowhere_under_outputs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    outputs = tmp_path / "outputs"
    quick = ["+experiment=smoke", "stages.sft.max_steps=2", "stages.evaluate.generation=null"]
    local = [tracker for tracker in ("tensorboard", "mlflow") if find_spec(tracker)]
    quick.append(f"tracking.report_to=[{','.join(local)}]")
    local = [tracker for tracker in ("tensorboard", "mlflow") if find_spec(tracker)]
    quick.append(f"tracking.report_to=[{','.join(local)}]")
    done = run_pipeline(outputs, *quick, cwd=repository)
    assert done.code == 0, done.err
    run = (outputs / "runs" / "latest").resolve()
    patch = (run / "changes.patch").read_text("utf-8")
    assert "+learning_rate = 2" in patch and patch.count("[secret]") >= 7
    assert read_json(run / "manifest.json")["environment"]["git"]["dirty"] is True
    command = [sys.executable, "-m", "pipeline.export", str(run), str(outputs / "bundle.zip")]
    subprocess.run(command, check=True, capture_output=True)
    written = [file for file in outputs.rglob("*") if file.is_file()]
    assert len(written) > 50
    for secret in (*PLANTED.values(), IN_URL):
        told = [file for file in written if secret.encode() in file.read_bytes()]
        assert not told, f"{secret} in {told}"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"data.sample.prompt={HUB}", "data.sample.prompt"),
        (f"model=https://example.org/model?token={IN_URL}", "model.source"),
        ("data.sample.prompt='ask {correct horse battery}'", "data.sample.prompt"),
    ],
)
def test_a_secret_in_a_setting_is_refused_by_its_key(
    override: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PASSWORD", PLANTED["MY_PASSWORD"])
    done = run_pipeline(tmp_path / "outputs", "+experiment=smoke", override)
    assert done.code == 2 and done.err.startswith(f"error: {key}: holds what looks like a password or token")
    assert HUB not in done.err and IN_URL not in done.err and done.err.count("\n") == 1
    assert not [file for file in (tmp_path / "outputs").rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    "plain",
    [
        "org/model",
        "a1b2c3d4" * 5,
        "package://x/y.gguf",
        "https://example.org/a?b=c",
        "user@example.org",
        "token",
        "sk-x",
    ],
)
def test_what_is_no_secret_passes(plain: str) -> None:
    refuse_secrets({"a": [plain], "b": {"c": plain, "d": 1, "e": None}})
    assert redacted(plain) == plain


@given(st.text(), st.text())
def test_redaction_keeps_what_is_around(before: str, after: str) -> None:
    text = redacted(f"{before} {HUB} {after}")
    assert HUB not in text and "[secret]" in text


def test_a_refusal_names_the_place_in_a_list() -> None:
    with pytest.raises(ConfigError, match=r"^data\.source: holds"):
        refuse_secrets({"data": {"source": f"https://user:{IN_URL}@example.org/rows.jsonl"}})
    with pytest.raises(ConfigError, match=r"^stages\.judge\.models\[1\]: holds what looks like"):
        refuse_secrets({"stages": {"judge": {"models": ["a", HUB]}}})
    assert json.dumps(PLANTED) != redacted(json.dumps(PLANTED))
    assert os.environ.get("PWD") is None or redacted(os.environ["PWD"]) == os.environ["PWD"]
