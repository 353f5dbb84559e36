"""Decoding as a setting of an evaluation: named, typed, part of what predictions are made from."""

from pathlib import Path

import pytest

from eval.generation import decoding_policy
from pipeline.cli import compose, options
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.plan import make_plan
from pipeline.stages.evaluate.config import EvaluateConfig

CHOSEN = "+decoding@stages.evaluate.generation.decoding"
SAYS = {
    "greedy": "greedy",
    "beam": "beam search of 5, length penalty 1.0, first finished",
    "random": "sampled with temperature 1.0, seed 0",
    "temperature": "sampled with temperature 0.7, seed 0",
    "top_k": "sampled with temperature 1.0, top_k 50, seed 0",
    "top_p": "sampled with temperature 1.0, top_p 0.9, seed 0",
    "min_p": "sampled with temperature 1.0, min_p 0.1, seed 0",
    "contrastive": "contrastive search of 4 candidates, alpha 0.6",
}


def evaluation(*overrides: str) -> EvaluateConfig:
    found = validate(RunConfig, compose(["+experiment=smoke", *overrides])).stages["evaluate"]
    assert isinstance(found, EvaluateConfig)
    return found


@pytest.mark.parametrize("name", SAYS)
def test_every_named_decoding_is_what_it_says(name: str) -> None:
    config = evaluation(f"{CHOSEN}={name}")
    assert config.generation is not None and decoding_policy(config.generation.decoding) == SAYS[name]


def test_these_are_all_of_them() -> None:
    assert SAYS.keys() == options("decoding").keys()


def test_a_named_one_takes_further_settings() -> None:
    config = evaluation(f"{CHOSEN}=top_p", "stages.evaluate.generation.decoding.seed=7")
    assert config.generation is not None
    assert decoding_policy(config.generation.decoding) == "sampled with temperature 1.0, top_p 0.9, seed 7"


def test_another_decoding_predicts_again_for_both_models_alike(tmp_path: Path) -> None:
    def prints(*overrides: str) -> dict[str, str]:
        config = validate(RunConfig, compose(["+experiment=smoke", *overrides, f"outputs={tmp_path}"]))
        return {step.node.name: step.node.fingerprint for step in make_plan(config).steps}

    plain = prints()
    for other in (prints(f"{CHOSEN}=top_p"), prints("stages.evaluate.generation.log_probabilities=true")):
        changed = {name.partition("_vs_")[0] for name in plain if plain[name] != other[name]}
        assert changed == {"evaluate/base", "evaluate/sft"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{kind: greedy, temperature: 0.7}", "decoding.temperature: unknown key"),
        ("{kind: sampled}", "stages.evaluate.generation.decoding"),
        ("{kind: sample, temperature: 0}", "decoding.temperature"),
        ("{kind: sample, top_k: 1}", "decoding.top_k"),
        ("{kind: sample, top_p: 1.0}", "decoding.top_p"),
        ("{kind: sample, min_p: 1.0}", "min_p=1 keeps only the likeliest token, which is greedy; use kind: greedy"),
        (
            "{kind: sample, min_p: 0.1, top_p: 0.9}",
            "top_p=0.9 and min_p=0.1 both cut the tail; set one of them",
        ),
        ("{kind: beam, beams: 1}", "decoding.beams"),
        ("{kind: contrastive, alpha: 1.5}", "decoding.alpha"),
        ("{kind: contrastive, candidates: 1}", "decoding.candidates"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluation(f"stages.evaluate.generation.decoding={settings}")
    assert message in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
