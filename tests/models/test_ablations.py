"""The ablations compare equals: every variant is as large as the base, and one axis alone differs."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.cli import compose
from pipeline.models import ProvetuneConfig
from pipeline.models.sizes import size
from pipeline.sweep import declared_choices
from pipeline.training.decode_speed import decoding_costs
from pipeline.training.routing import ROUTING, save_routing
from tests.conftest import run_pipeline
from tests.models.variants import FOLDER

ABLATIONS = FOLDER.parent / "ablation"
EXPERIMENTS = FOLDER.parents[1] / "experiment"
VARIANTS = sorted(file.stem for file in ABLATIONS.glob("*_*.yaml") if not file.stem.startswith("size_"))
AXES = {
    "attention": {"attention", "num_key_value_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
                  "qk_rope_head_dim", "v_head_dim"},
    "positions": {"positions"},
    "norm": {"norm", "norm_position"},
    "activation": {"feed_forward"},
    "experts": {"num_experts", "experts_per_token", "shared_experts", "router_bias", "router_score",
                "router_normalise", "balance_loss", "z_loss"},
}  # fmt: skip
WIDTHS = {"intermediate_size", "expert_intermediate_size"}


def own_fields(name: str) -> dict[str, Any]:
    return yaml.safe_load((ABLATIONS / f"{name}.yaml").read_text(encoding="utf-8")).get("architecture") or {}


def config(name: str) -> ProvetuneConfig:
    return ProvetuneConfig(**(own_fields("base") | (own_fields(name) if name != "base" else {})))


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_as_large_as_the_base_and_differ_on_one_axis(name: str) -> None:
    assert size(config(name)).active == pytest.approx(size(config("base")).active, rel=0.01)
    assert set(own_fields(name)) <= AXES[name.split("_")[0]] | WIDTHS


@pytest.mark.parametrize("axis", AXES)
def test_the_experiment_sweeps_every_variant(axis: str) -> None:
    experiment = yaml.safe_load((EXPERIMENTS / f"ablate_{axis}.yaml").read_text(encoding="utf-8"))
    swept = experiment["hydra"]["sweeper"]["params"]["model"].split(",")
    assert sorted(swept) == [f"ablation/{name}" for name in VARIANTS if name.startswith(f"{axis}_")]
    for choice in swept:
        composed = compose([f"+experiment=ablate_{axis}", f"model={choice}"])
        assert composed["experiment"] == f"ablate_{axis}"
        assert composed["model"]["architecture"] == own_fields("base") | own_fields(choice.split("/")[1])


@pytest.mark.end_to_end
def test_a_sweep_runs_what_its_experiment_declares_unless_it_is_set(tmp_path: Path) -> None:
    planned = run_pipeline(tmp_path, "-m", "+experiment=ablate_norm", "mode=plan", "stages.pretrain.max_steps=40")
    assert planned.code == 0, planned.err
    jobs = [line.split("model=")[1] for line in planned.out.splitlines() if line.startswith("sweep: ")]
    assert sorted(jobs) == [f"ablation/{name}" for name in VARIANTS if name.startswith("norm_")]
    declared = declared_choices(["+experiment=scaling_law"])
    assert len(declared) == 1 and declared[0].startswith("model=ablation/size_24,ablation/size_40")
    assert declared_choices(["+experiment=scaling_law", "model=ablation/size_24,ablation/size_40"]) == []


def test_the_caches_are_told_in_bytes() -> None:
    """Four layers of float32: two times heads times 16 values; of latent attention 32 + 8 values."""
    told = {name: config(f"attention_{name}").kv_bytes_per_token(bytes_per_value=4) for name in
            ("multi_head", "grouped_query", "multi_query", "latent")}  # fmt: skip
    assert told == {"multi_head": 4096, "grouped_query": 1024, "multi_query": 512, "latent": 640}


def test_a_trained_decoder_tells_what_writing_costs() -> None:
    from pipeline.models.heads import ProvetuneForCausalLM

    fields = own_fields("base") | own_fields("attention_latent")
    small = fields | {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32}
    costs = decoding_costs(ProvetuneForCausalLM(ProvetuneConfig(**small)), "float32")
    assert costs["kv_bytes_per_token"] == 160 and costs["decode_tokens_per_second"] > 0


def test_other_models_tell_no_costs() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    assert decoding_costs(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16)), "float32") == {}


def test_experts_are_told_by_their_tokens(tmp_path: Path) -> None:
    """Each expert's share of the choices adds up to one in each layer, and the tokens are text."""
    from datasets import Dataset

    from pipeline.models.heads import ProvetuneForCausalLM

    fields = own_fields("base") | own_fields("experts_mixtral") | {"hidden_size": 32, "num_hidden_layers": 2}
    rows = Dataset.from_dict({"input_ids": [[1, 2, 3, 4, 5]] * 3})
    tokenizer = SimpleNamespace(decode=lambda ids: f"<{ids[0]}>")
    save_routing(ProvetuneForCausalLM(ProvetuneConfig(**fields)), tokenizer, rows, tmp_path)
    table = json.loads((tmp_path / ROUTING).read_text(encoding="utf-8"))
    assert {row["expert"] for row in table} == {0, 1, 2, 3} and len({row["layer"] for row in table}) == 2
    assert sum(row["share"] for row in table) == pytest.approx(2.0)
    assert {token["token"] for row in table for token in row["tokens"]} <= {f"<{number}>" for number in range(1, 6)}
