"""Packed fine-tuning equals unpacked: losses, validation, every token alone; and a step of nan names its rows."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.errors import DataError
from data_prep.progress import silent
from pipeline.errors import StageFailed
from tests.conftest import Finished

pytestmark = pytest.mark.end_to_end


def losses(folder: Path, file: str = "steps.jsonl") -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / file).read_text(encoding="utf-8").splitlines()]


def stage_of(smoke: Finished, node: str) -> tuple[dict[str, Any], dict[str, Path]]:
    stage = yaml.safe_load((smoke.artifact(node) / "stage.yaml").read_text(encoding="utf-8"))
    return stage["config"], {label: Path(path) for label, path in stage["inputs"].items()}


def prepared(smoke: Finished, out: Path, packing: str, **changes: object) -> Path:
    """The smoke run's rows again, packed or not."""
    from pipeline.stages.sft.prepare import run

    config, inputs = stage_of(smoke, "sft/prepare")
    run(config | {"packing": packing} | changes, inputs, out, silent)
    return out


def train(smoke: Finished, rows: Path, out: Path, **changes: object) -> Path:
    from pipeline.stages.sft.train import run

    config, inputs = stage_of(smoke, "sft/train")
    out.mkdir(parents=True, exist_ok=True)
    run(config | changes, inputs | {"rows": rows}, out, silent)
    return out


def rows_of(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    from datasets import load_from_disk

    return list(load_from_disk(str(folder / split)))  # pyright: ignore[reportReturnType]


def test_packed_training_equals_unpacked(smoke: Finished, tmp_path: Path) -> None:
    """Steps over all rows, so that both see the same conversations; losses per token, trained and validated."""
    found = {}
    for packing in ("none", "best_fit"):
        rows = prepared(smoke, tmp_path / packing / "rows", packing)
        count = len(rows_of(rows))
        out = train(smoke, rows, tmp_path / packing, batch_size=count, max_steps=4, validate_every=2)
        found[packing] = (count, losses(out), losses(out, "validation.jsonl"))
    assert found["best_fit"][0] < 0.5 * found["none"][0]
    assert found["best_fit"][1] == pytest.approx(found["none"][1], abs=1e-5)
    assert found["best_fit"][2] == pytest.approx(found["none"][2], abs=1e-5)
    assert len(found["none"][1]) == 4 and len(found["none"][2]) == 2


def test_accumulation_of_packed_rows_changes_nothing(smoke: Finished, tmp_path: Path) -> None:
    rows = prepared(smoke, tmp_path / "rows", "best_fit")
    runs = [
        losses(train(smoke, rows, tmp_path / str(micro), batch_size=4, max_steps=4, micro_batch_size=micro))
        for micro in (None, 1)
    ]
    assert runs[1] == pytest.approx(runs[0], abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_every_token_of_a_packed_row_has_the_loss_that_it_has_alone(name: str) -> None:
    """In evaluation mode, where the cache would be on unless the batch switched it off."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipeline.training.packed import packed_batch

    sizes: dict[str, int] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8}
    if name == "gpt2":
        sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **sizes)).eval()
    ids = [*range(3, 25)]
    labels = [-100 if at in (0, 1, 5, 6, 7, 15) else ids[at] for at in range(22)]
    batch = packed_batch([{"input_ids": ids, "labels": labels, "lengths": [5, 1, 9, 7]}], pad=0)
    assert batch["use_cache"] is False and "attention_mask" not in batch
    assert batch["labels"][0].tolist() == labels

    def token_losses(**inputs: Any) -> Any:
        marks = inputs.pop("labels")
        with torch.no_grad():
            logits = model(**inputs).logits[:, :-1].double()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), marks[:, 1:].flatten(), reduction="none")

    together, start = torch.cat([torch.zeros(1), token_losses(**batch)]), 0
    for length in (5, 1, 9, 7):
        part = slice(start, start + length)
        alone = token_losses(input_ids=batch["input_ids"][:, part], labels=batch["labels"][:, part], use_cache=False)
        assert together[part][1:].tolist() == pytest.approx(alone.tolist(), abs=1e-5)
        start += length
    cached = token_losses(**{**batch, "use_cache": True})
    assert float((cached - together[1:]).abs().max()) > 1e-3  # what the switch prevents


def test_a_model_that_ignores_positions_is_refused(smoke: Finished, tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    from pipeline.training.packed import refuse_leak

    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4))
    row = {"input_ids": [*range(3, 20)], "labels": [*range(3, 20)], "lengths": [8, 9]}
    with pytest.raises(StageFailed, match=r"packed conversations see each other .*; set packing=none"):
        refuse_leak(model, [row], "conversations")


@pytest.mark.parametrize("packing", ["none", "best_fit"])
def test_a_step_of_nan_names_its_rows_and_keeps_the_checkpoint(packing: str, smoke: Finished, tmp_path: Path) -> None:
    """One embedding is nan: only rows with that token can be to blame, and one of the named ones has it."""
    import shutil

    from safetensors.torch import load_file, save_file

    config, inputs = stage_of(smoke, "sft/train")
    rows = prepared(smoke, tmp_path / "rows", packing)
    held = {row.get("id", str(row.get("documents"))): set(row["input_ids"]) for row in rows_of(rows)}
    token = next(
        token for token in sorted(set().union(*held.values())) if sum(token in ids for ids in held.values()) == 1
    )
    [guilty] = [name for name, ids in held.items() if token in ids]
    weights = Path(shutil.copytree(inputs["weights"], tmp_path / "model" / "model"))
    state = load_file(weights / "model.safetensors")
    embedding = next(name for name in state if "embed_tokens" in name)
    state["lm_head.weight"] = state[embedding].clone()
    state[embedding][token] = float("nan")
    settings = json.loads((weights / "config.json").read_text(encoding="utf-8")) | {"tie_word_embeddings": False}
    (weights / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(state, weights / "model.safetensors", metadata={"format": "pt"})
    from pipeline.stages.sft.train import run

    changes = {
        "batch_size": 2,
        "micro_batch_size": 1,
        "max_steps": 10_000,
        "checkpoint_every": 1,
        "validate_every": None,
    }
    with pytest.raises(
        StageFailed, match=r"the (loss|gradient norm) of step (\d+) is nan; .* its rows were "
    ) as caught:
        run(config | changes, inputs | {"rows": rows, "weights": weights}, tmp_path, silent)
    named = str(caught.value).split("its rows were ")[1].split(" (the last")[0]
    if packing == "none":
        assert guilty in named.split(", ") and len(named.split(", ")) == 2
    else:
        assert any(name in named for name in guilty.strip("[]'").split("', '"))
    step = int(str(caught.value).split("of step ")[1].split()[0])
    kept = sorted(int(folder.name.split("-")[1]) for folder in (tmp_path / "checkpoints").glob("checkpoint-*"))
    assert not kept or kept[-1] == step - 1


def test_a_preflight_of_nan_names_the_rows_of_the_longest_batch(smoke: Finished, tmp_path: Path) -> None:
    """Every weight is nan: the first batch that is looked at is the longest one."""
    import shutil

    from safetensors.torch import load_file, save_file

    from pipeline.stages.sft.train import run

    config, inputs = stage_of(smoke, "sft/train")
    rows = prepared(smoke, tmp_path / "rows", "none")
    longest = max(rows_of(rows), key=lambda row: len(row["input_ids"]))
    weights = Path(shutil.copytree(inputs["weights"], tmp_path / "model" / "model"))
    state = {name: weight * float("nan") for name, weight in load_file(weights / "model.safetensors").items()}
    save_file(state, weights / "model.safetensors", metadata={"format": "pt"})
    changes = {"batch_size": 2, "micro_batch_size": 1, "validate_every": None}
    with pytest.raises(StageFailed, match=f"preflight: the loss of the longest batch is nan .* rows: {longest['id']}"):
        run(config | changes, inputs | {"rows": rows, "weights": weights}, tmp_path, silent)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(smoke: Finished, tmp_path: Path) -> None:
    import shutil

    from transformers import AutoTokenizer

    config, inputs = stage_of(smoke, "sft/prepare")
    weights = Path(shutil.copytree(inputs["weights"], tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(weights)
    rows, tokens = json.loads((weights / "config.json").read_text())["vocab_size"], len(tokenizer)
    tokenizer.add_tokens([f"<new{number}>" for number in range(rows - tokens + 1)])
    tokenizer.save_pretrained(weights)
    from pipeline.stages.sft.prepare import run

    with pytest.raises(DataError) as caught:
        run(config, inputs | {"weights": weights}, tmp_path / "out", silent)
    assert str(caught.value) == (
        f"model: the tokenizer has {rows + 1} tokens (ids up to {rows}, '<new{rows - tokens}>'), but only {rows} have "
        "an embedding; use the tokenizer that belongs to the model, or extend it with a stage of kind tokenizer"
    )
