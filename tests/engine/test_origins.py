"""Where a model comes from: local folders by content, Hub models by commit."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipeline.artifacts import HashMemory
from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.origins import hub_commit, model_origin
from pipeline.plan import make_plan
from pipeline.stages.model.config import ModelConfig
from tests.conftest import Finished, run_pipeline

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(f"{COMMIT}\n")
    return tmp_path


def test_offline_a_branch_is_what_the_cache_says(cache: Path) -> None:
    assert hub_commit("org/name", None, "model", "model") == COMMIT
    assert hub_commit("org/name", "main", "model", "model") == COMMIT
    assert hub_commit("org/name", "f" * 40, "model", "model") == "f" * 40
    with pytest.raises(
        ConfigError, match=r"model: org/name@v2 is not in the local Hub cache, and HF_HUB_OFFLINE is set"
    ):
        hub_commit("org/name", "v2", "model", "model")
    with pytest.raises(ConfigError, match=r"data\.x: org/name@main is not in the local Hub cache"):
        hub_commit("org/name", None, "dataset", "data.x")


def test_the_commit_decides_the_fingerprint(cache: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        config = validate(RunConfig, compose(["+experiment=smoke", "model=org/name", f"outputs={tmp_path}/o"]))
        return next(step.node.fingerprint for step in make_plan(config).steps if step.node.kind == "model")

    before = fingerprint()
    (cache / "models--org--name" / "refs" / "main").write_text("f" * 40)
    assert fingerprint() != before


def test_a_gguf_is_its_content(tmp_path: Path) -> None:
    hashes = HashMemory(tmp_path / "hashes.json")
    for name, content in (("a.gguf", b"GGUF1"), ("b.gguf", b"GGUF1"), ("c.gguf", b"GGUF2")):
        (tmp_path / name).write_bytes(content)
    first, same, other = (model_origin(ModelConfig(source=str(tmp_path / f"{name}.gguf")), hashes) for name in "abc")
    assert first.identity == same.identity != other.identity
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="is not a folder, a .gguf file or a Hub id"):
        model_origin(ModelConfig(source=str(tmp_path / "x.bin")), hashes)


@pytest.fixture
def folder(smoke: Finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(smoke.artifact("model") / "model", tmp_path / "my model"))


SHORT = [
    "+experiment=smoke",
    "stages.sft.max_steps=2",
    "stages.evaluate.generation=null",
    "stages.sft.validate_every=null",
]


@pytest.mark.end_to_end
def test_a_local_folder_is_its_content_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    """Moved: everything cached, and still usable. A changed weight: noticed."""
    outputs = tmp_path / "outputs"
    first = run_pipeline(outputs, *SHORT, f"model={folder}")
    assert first.code == 0, first.err
    moved = folder.rename(tmp_path / "elsewhere")
    second = run_pipeline(outputs, *SHORT, f"model={moved}")
    assert second.code == 0, second.err
    outcomes = {stage["name"]: stage["outcome"] for stage in second.report["stages"]}
    assert outcomes.pop("model") == "ran"  # the link is made again
    assert set(outcomes.values()) == {"cached"}
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0x40
    weights.write_bytes(content)
    third = run_pipeline(outputs, *SHORT, f"model={moved}", "mode=plan")
    assert third.out.count("new") == 6 and third.out.count("cached") == 3  # data and filter stay


@pytest.mark.end_to_end
def test_damaged_weights_stop_in_one_line(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    done = run_pipeline(tmp_path / "outputs", *SHORT, f"model={folder}")
    assert done.code in (3, 4)
    assert done.err.startswith("error: model: ") and done.err.count("\n") == 1
    assert "Traceback" not in done.err + done.out
    assert "Traceback" in next((tmp_path / "outputs").glob("artifacts/model/*/logs/rank0.log")).read_text()
