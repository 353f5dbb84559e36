"""`python -m eval`: numbers of one model never stand under the name of another, whatever the folder holds already."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from eval.commands.cli import config_of, main
from eval.commands.measure import names_of

pytestmark = pytest.mark.end_to_end

FAST = ["generation.max_new_tokens=4", "statistics.resamples=100", "template=plain", "energy=null"]


@pytest.fixture(scope="module")
def saved(model: Any, other_model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models whose folders are called alike, and an adapter of the first that changes its answers."""
    import torch
    from peft import LoraConfig, get_peft_model

    root = tmp_path_factory.mktemp("models")
    for name, each in (("one", model), ("two", other_model)):
        each.save_pretrained(root / name / "model")
        tokenizer.save_pretrained(root / name / "model")
    torch.manual_seed(0)
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"]))
    adapted.save_pretrained(root / "lora")
    return root


@pytest.fixture(scope="module")
def stranger(saved: Path, other_model: Any) -> Path:
    """A model of another family: its own BOS token, and twice the context."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = saved / "stranger"
    config = copy.deepcopy(other_model.config)
    config.max_position_embeddings = 64
    other = LlamaForCausalLM(config)
    other.load_state_dict(other_model.state_dict())
    other.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(saved / "two/model")
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    return folder


def measured(saved: Path, out: Path, *more: str) -> dict[str, Any]:
    rows = [{"prompt": f"the {name}", "completion": "runs at night"} for name in ("mill", "fox", "dog", "river")]
    file = out.parent / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["tasks=[mine]", f"data.mine.source={file}", f"output={out}", *FAST, *more]) == 0
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def bits(found: dict[str, Any], name: object) -> float:
    return found["models"][str(name)]["perplexity/mine"]["bits_per_byte"]


def test_an_adapter_against_the_model_that_it_adapts(saved: Path, tmp_path: Path) -> None:
    one = saved / "one/model"
    found = measured(saved, tmp_path / "out", f"model={one}", f"adapters=[{saved / 'lora'}]", f"base={one}")
    with_adapter = f"{one} + {saved / 'lora'}"
    assert list(found["models"]) == list(found["costs"]) == [with_adapter, str(one)]
    entry = found["comparisons"]["model_vs_base"]["perplexity/mine"]["bits_per_byte"]
    assert (entry["tuned"], entry["base"]) == (bits(found, with_adapter), bits(found, one)) and entry["difference"] != 0


def test_a_model_against_itself_cannot_be_told_apart(saved: Path, tmp_path: Path) -> None:
    one = saved / "one/model"
    found = measured(saved, tmp_path / "out", f"model={one}", f"base={one}")
    assert list(found["models"]) == [str(one), f"{one} (base)"]
    entries = [entry for task in found["comparisons"]["model_vs_base"].values() for entry in task.values()]
    assert {(e["difference"], e["low"], e["high"], e["p"], e["verdict"], e["more_needed"]) for e in entries} == {
        (0.0, 0.0, 0.0, 1.0, "cannot tell", None)
    }
    assert names_of(config_of(["model=x", "tasks=[piqa]"])) == {"model": "x"}


def test_what_an_earlier_call_left_is_not_shown_as_this_models(saved: Path, tmp_path: Path) -> None:
    """Of the same output folder: another model, then a measure less, then another way of measuring."""
    one, two = (f"model={saved / name / 'model'}" for name in ("one", "two"))
    first = measured(saved, tmp_path / "out", one)
    assert "perplexity/mine" in first["models"][str(saved / "one/model")]
    second = measured(saved, tmp_path / "out", two, "perplexity=null")
    assert second["models"][str(saved / "two/model")].keys() == {"rouge/mine", "bleu/mine", "variety/mine"}
    assert "perplexity" not in second["policies"]["mine"]
    base = f"base={saved / 'one/model'}"
    third = measured(saved, tmp_path / "out", two, base, "generation=null")  # was refused: only one side has answers
    assert third["comparisons"]["model_vs_base"].keys() == {"perplexity/mine"}
    assert third["policies"]["mine"].keys().isdisjoint({"generation", "rouge", "bleu", "chrf", "stop"})
    assert bits(third, saved / "one/model") == bits(first, saved / "one/model")
    fourth = measured(saved, tmp_path / "out", two, "settings.mine={kind: cloze, too_long: cut}")
    assert fourth["models"][str(saved / "two/model")].keys() == {"cloze/mine"}


def test_a_report_keeps_models_of_one_folder_name_apart(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    own = {"perplexity/mine": {"bits_per_byte": 99.0}}
    report = {"schema_version": 1, "evaluation": {"models": {"model": own}, "comparisons": {}, "policies": {}}}
    (run / "report.json").write_text(json.dumps(report), encoding="utf-8")
    given = [f"model={saved / 'two/model'}", f"base={saved / 'one/model'}", f"into={run}"]
    found = measured(saved, tmp_path / "out", *given)
    measured(saved, tmp_path / "out", *given)  # again: nothing is there twice
    told = json.loads((run / "report.json").read_text(encoding="utf-8"))["evaluation"]
    assert told["models"].keys() == {"model", "two/model", "one/model"} and told["models"]["model"] == own
    assert told["models"]["two/model"] == found["models"][str(saved / "two/model")]
    assert told["comparisons"] == {"two/model_vs_one/model": found["comparisons"]["model_vs_base"]}


def test_models_of_two_families_are_compared(
    saved: Path, stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """BOS token and context are the models' own; how they are asked is not."""
    given = [f"model={stranger}", f"base={saved / 'one/model'}"]
    found = measured(saved, tmp_path / "prompts", *given)
    assert found["comparisons"]["model_vs_base"].keys() == {"perplexity/mine", "rouge/mine", "bleu/mine"}
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": f"the old mill {n} runs " * 9 + "on"}) + "\n" for n in range(3)))
    texts = [*given, "tasks=[t]", f"data.t.source={rows}", *FAST]
    assert main([*texts, f"output={tmp_path / 'texts'}"]) == 0
    told = json.loads((tmp_path / "texts/results.json").read_text(encoding="utf-8"))
    assert "perplexity/t" in told["comparisons"]["model_vs_base"]
    assert "max length 64, stride 64" in told["policies"]["t"]["perplexity"]
    assert main([*texts, f"output={tmp_path / 'texts'}", "settings.t={kind: cloze, too_long: cut}"]) == 0
    assert main([*texts, f"output={tmp_path / 'texts'}", "perplexity.stride=20"]) == 0
    (stranger / "chat_template.jinja").write_text("{{ messages[0]['content'] }}: ")
    capsys.readouterr()
    chat = [each for each in FAST if not each.startswith("template")]
    asked = ["tasks=[mine]", f"data.mine.source={tmp_path / 'rows.jsonl'}", f"output={tmp_path / 'chat'}"]
    assert main([*given, *asked, *chat]) == 3
    assert "their chat templates differ: with template=plain both are asked alike" in capsys.readouterr().err
