"""Every kind of adapter: trained by the pipeline, loaded by plain PEFT, merged, evaluated."""

from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from data_prep.progress import silent
from pipeline.errors import StageFailed
from tests.conftest import Finished
from tests.engine.plain_trl import plain_settings
from tests.engine.test_training import losses, plain_losses, stage_of, train

pytestmark = pytest.mark.end_to_end

KINDS: dict[str, dict] = {
    "lora": {"r": 4},
    "qlora": {"r": 4},
    "qlora int8": {"kind": "qlora", "r": 4, "quantization": "int8", "double_quantization": False},
    "dora": {"r": 4},
    "rslora": {"r": 4},
    "lora_plus": {"r": 4},
    "pissa": {"r": 4},
    "pissa randomised": {"kind": "pissa", "r": 4, "iterations": 16},
    "vera": {"r": 16},
    "ia3": {},
    "prefix": {"tokens": 4},
    "prefix projected": {"kind": "prefix", "tokens": 4, "projection_size": 32},
    "prompt": {"tokens": 4},
    "prompt with text": {"kind": "prompt", "tokens": 4, "text": "Answer in one short sentence."},
}


def adapter(name: str) -> dict:
    return {"kind": name.split()[0], **KINDS[name]}


def ids(smoke: Finished):
    """A batch of one row of the held-out rows (B=1, T)."""
    import torch
    from datasets import load_from_disk

    row = load_from_disk(str(smoke.artifact("sft/prepare") / "validation"))[0]
    return torch.tensor([row["input_ids"]])


def base(smoke: Finished):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smoke.artifact("model") / "model").eval()


def logits(model, tokens):
    """Logits of the real tokens: prompt tuning gives those of its virtual ones too."""
    import torch

    with torch.no_grad():
        return model(input_ids=tokens).logits[:, -tokens.shape[1] :]


def predicted(smoke: Finished, weights: Path, adapters: list[Path], out: Path) -> dict[str, float]:
    """The evaluation stage, on a model that this test made."""
    from pipeline.stages.evaluate.predict import run

    stage = yaml.safe_load((smoke.artifact("evaluate/sft") / "stage.yaml").read_text(encoding="utf-8"))
    inputs = {"weights": weights, "dataset": Path(stage["inputs"]["dataset"])}
    out.mkdir()
    return run(stage["config"], inputs | {f"adapter_{n}": path for n, path in enumerate(adapters)}, out, silent)


@pytest.mark.parametrize("name", KINDS)
def test_trained_saved_loaded_by_plain_peft_and_evaluated(smoke: Finished, tmp_path: Path, name: str) -> None:
    """The validation loss of the training is that of what was saved: also quantised, converted, with virtual tokens."""
    from datasets import load_from_disk
    from peft import PeftModel

    from eval.adapters import QUANTISATION, apply_adapter, requantise
    from pipeline.artifacts import read_json

    changes = {"learning_rate": 1e-2, "max_steps": 3, "validate_every": 3, "validation_rows": 8}
    metrics = train(smoke, tmp_path, adapter=adapter(name), **changes)
    folder = tmp_path / "adapter"
    assert losses(tmp_path)[2] < losses(tmp_path)[0] and metrics["trainable_parameters"] > 0
    tokens, plain = ids(smoke), base(smoke)
    untrained = logits(plain, tokens)
    if (folder / QUANTISATION).exists():  # PEFT alone does not know which weights the adapter was trained on
        requantise(plain, read_json(folder / QUANTISATION))
    theirs = logits(PeftModel.from_pretrained(plain, folder).eval(), tokens)
    ours = logits(apply_adapter(base(smoke), folder).eval(), tokens)
    assert (theirs - ours).abs().max() < 1e-5
    assert (ours - untrained).abs().max() > 1e-3
    rows = list(load_from_disk(str(smoke.artifact("sft/prepare") / "validation")))[:8]
    nats, count = plain_losses(apply_adapter(base(smoke), folder).eval(), rows)
    bound = 2e-3 if name.startswith("qlora") else 1e-6  # TRL trains adapters on quantised weights in bfloat16
    assert losses(tmp_path, "validation.jsonl") == [pytest.approx(nats / count, abs=bound)]
    made = predicted(smoke, smoke.artifact("model") / "model", [folder], tmp_path / "predictions")
    of_the_base = yaml.safe_load((smoke.artifact("evaluate/base") / "metrics.json").read_text(encoding="utf-8"))
    assert set(made) == set(of_the_base) and made != of_the_base


def test_freeze_trains_only_what_is_named(smoke: Finished, tmp_path: Path) -> None:
    before = load_file(smoke.artifact("model") / "model" / "model.safetensors")
    train(
        smoke, tmp_path, adapter={"kind": "freeze", "last_layers": 1, "modules": ["layers.0.mlp.up_proj"]}, max_steps=3
    )
    after = load_file(tmp_path / "model" / "model.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if ".layers.1." in name or name.endswith("layers.0.mlp.up_proj.weight")}
    assert predicted(smoke, tmp_path / "model", [], tmp_path / "predictions")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kind": "vera", "target": ["q_prj"]},
            r"adapter.target: no linear layer named \['q_prj'\]; the model has",
        ),
        (
            {"kind": "ia3", "target": ["c_attn"]},
            r"adapter.target: no linear layer named \['c_attn'\]; the model has",
        ),
        ({"kind": "qlora", "target": ["x"]}, r"adapter.target: no linear layer named \['x'\]; the model"),
        (
            {"kind": "lora", "rank_pattern": {"qq": 2}},
            "adapter.rank_pattern: 'qq' matches no linear layer; the",
        ),
        ({"kind": "dora", "alpha_pattern": {"z": 2.0}}, "adapter.alpha_pattern: 'z' matches no linear layer"),
        ({"kind": "freeze", "last_layers": 3}, "adapter.last_layers: 3, but the model has 2 blocks"),
        (
            {"kind": "freeze", "modules": ["head"]},
            "adapter.modules: no module named head; the .*embed_tokens",
        ),
    ],
)
def test_what_matches_nothing_is_answered_with_what_exists(
    smoke: Finished, tmp_path: Path, settings: dict, message: str
) -> None:
    with pytest.raises(StageFailed, match=message):
        train(smoke, tmp_path, adapter=settings)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("mlp", {"gate_proj", "up_proj", "down_proj"}),
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (["v_proj", "layers.1.mlp.up_proj"], {"v_proj", "up_proj"}),
    ],
)
def test_targets(smoke: Finished, target: str | list[str], expected: set[str]) -> None:
    from peft import get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    from pipeline.stages.sft.config import SftTrainConfig
    from pipeline.training.adapters import adapter_config

    config, _ = stage_of(smoke, adapter={"kind": "lora", "target": target})
    made = adapter_config(SftTrainConfig.model_validate(config), base(smoke), Path())
    assert made is not None
    adapted = [
        name for name, module in get_peft_model(base(smoke), made).named_modules() if isinstance(module, BaseTunerLayer)
    ]
    assert {name.rsplit(".", 1)[-1] for name in adapted} == expected


def test_gpt2_has_one_name_in_both_blocks() -> None:
    """`c_proj` ends the attention and the feed-forward block: then full names tell them apart."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from pipeline.training.adapters import target_modules

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16))
    assert target_modules("attention", model) == ["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"]


def test_rank_and_alpha_per_pattern(smoke: Finished, tmp_path: Path) -> None:
    pattern = {"kind": "lora", "r": 8, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 1.0}}
    train(smoke, tmp_path, adapter=pattern, max_steps=1)
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    ranks = {name: weight.shape[0] for name, weight in weights.items() if "lora_A" in name}
    assert {rank for name, rank in ranks.items() if "q_proj" in name} == {2}
    assert {rank for name, rank in ranks.items() if "q_proj" not in name} == {8}


@pytest.mark.parametrize("name", ["qlora", "pissa", "vera", "prompt", "lora_plus"])
def test_resumed_equals_uninterrupted(smoke: Finished, tmp_path: Path, name: str) -> None:
    """From the checkpoint of step 4, with the optimizer's states, PiSSA's start and the quantised weights."""
    changes = {"adapter": adapter(name), "checkpoint_every": 4, "schedule": "constant"}
    train(smoke, tmp_path / "whole", max_steps=6, **changes)
    train(smoke, tmp_path / "parts", max_steps=5, **changes)
    train(smoke, tmp_path / "parts", max_steps=6, **changes)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    files = [tmp_path / part / "adapter" / "adapter_model.safetensors" for part in ("parts", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_qlora_losses_equal_a_plain_trl_trainer(smoke: Finished, tmp_path: Path) -> None:
    from datasets import load_from_disk
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
    from trl import SFTConfig, SFTTrainer

    train(smoke, tmp_path / "ours", max_steps=20, adapter={"kind": "qlora", "r": 4})
    config, inputs = stage_of(smoke)
    set_seed(config["seed"])
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(inputs["weights"], quantization_config=nf4),
        args=SFTConfig(
            **plain_settings(config, tmp_path / "trl"),
            activation_checkpointing=False,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=load_from_disk(str(inputs["rows"] / "train")).remove_columns("id"),
        processing_class=AutoTokenizer.from_pretrained(inputs["weights"]),
        peft_config=LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses(tmp_path / "ours") == pytest.approx(theirs, abs=1e-5)
