"""The settings of a server that answers: what makes no sense is refused, and the key knows what changes answers."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from data_prep.errors import DataError
from eval.config import GenerationConfig
from eval.decoding.config import BeamDecoding, ContrastiveDecoding, SampleDecoding
from eval.generation import generation_key, generation_policy
from eval.samples import Sample

SAMPLES = [Sample(f"row{n}", "river mill"[: 2 + n], "the old mill") for n in range(4)]
URL = "http://127.0.0.1:9/v1"


def config(**more: Any) -> GenerationConfig:
    server = {"base_url": URL, "served": {"base": "org/base"}} | more.pop("server", {})
    settings: dict[str, Any] = {"engine": "server", "max_new_tokens": 6, "server": server, **more}
    return GenerationConfig.model_validate(settings).of_model("base")


def test_the_key_knows_the_name_and_not_the_speed(model: Any, tokenizer: Any) -> None:
    def key(**server: Any) -> str:
        return generation_key(model, tokenizer, SAMPLES, config(server=server), "plain")

    assert key() == key(concurrency=3, retries=0, timeout_seconds=1.0, requests_per_minute=5.0)
    assert len({key(), key(served={"base": "other"}), key(base_url="http://other/v1"), key(prompts="tokens")}) == 4
    assert "server" not in GenerationConfig().identity()
    assert generation_policy(model, GenerationConfig()).endswith("float32")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoding": BeamDecoding()}, "engine=server has no beam search; take engine=transformers"),
        ({"decoding": ContrastiveDecoding()}, "engine=server has no contrastive search"),
        ({"decoding": SampleDecoding(min_p=0.1)}, "decoding.min_p is none of OpenAI's settings.*add min_p to server.k"),
        ({"decoding": SampleDecoding(top_k=5)}, "add top_k to server.knows if yours does, or set it to null"),
        ({"decoding": SampleDecoding(), "log_probabilities": True}, "log_probabilities of sampled answers"),
        ({"engine": "transformers"}, "engine=server and server=.* go together; set both"),
        ({"server": {"served": {"base": "m", "sft": "m"}}}, "served.sft and served.base are both m at .*with itself"),
        ({"server": {"served": {}}}, "served"),
        ({"server": {"api_key": "sk-secret"}}, "api_key: a key has no place here"),
        ({"server": {"served": {"base": {"name": "m", "base_url": "ftp://x"}}}}, "is no address of a server"),
    ],
)
def test_what_it_cannot_do_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        config(**settings)
    assert "sk-secret" not in str(caught.value)


def test_a_compared_model_without_a_served_name_is_refused() -> None:
    whole = GenerationConfig.model_validate(
        {"engine": "server", "server": {"base_url": URL, "served": {"base": "m", "sft": {"name": "n"}}}}
    )
    with pytest.raises(DataError, match=r"served: no name for the model 'dpo', only for \['base', 'sft'\]; add served"):
        whole.of_model("dpo")
    alone = whole.of_model("sft").server
    assert alone is not None and json.loads(alone.only.model_dump_json()) == {"name": "n", "base_url": URL}
