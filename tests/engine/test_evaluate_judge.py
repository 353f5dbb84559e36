"""A judge in the evaluate stage: a stub server end to end, its refusals, and what the report holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_pipeline
from tests.eval.judge.conftest import Stub, completion, stub  # noqa: F401

pytestmark = pytest.mark.end_to_end

QUICK = ["stages.sft.max_steps=2", "stages.evaluate.generation.max_rows=8", "stages.evaluate.statistics.resamples=300"]


def judged_by(url: str, model: str = "judge-x", **more: Any) -> list[str]:
    fields = "".join(f", {name}: {value}" for name, value in more.items())
    return [
        "+judge@stages.evaluate.judge=server",
        f"stages.evaluate.judge.judges.main.base_url='{url}'",
        f"stages.evaluate.judge.judges.main.model={model}",
        "stages.evaluate.judge.judges.main.retries=0",
        *([f"stages.evaluate.judge={{force_own_family: true{fields}}}"] if more else []),
    ]


def test_a_judge_behind_a_server_end_to_end(stub: Stub, tmp_path: Path) -> None:  # noqa: F811
    """The first answer shown always wins: so the two orders never agree, and nobody wins."""
    first = run_pipeline(tmp_path, "+experiment=smoke", *QUICK, *judged_by(stub.url))
    assert first.code == 0, first.out + first.err
    evaluation = first.report["evaluation"]
    values = evaluation["models"]["sft"]["judge/sample"]
    different = len(stub.requests) // 2
    assert different > 0 and values["win_rate"] == pytest.approx(0.5) and values["parse_failures"] == 0
    assert values["order_consistency"] == 0.0
    entry = evaluation["comparisons"]["sft_vs_base"]["judge/sample"]["win_rate"]
    assert entry["n"] == 8 and entry["difference"] == 0 and entry["verdict"] == "cannot tell"
    assert entry["p"] <= entry["p_holm"] and entry["detectable"] is not None
    assert "length_controlled_win_rate" in evaluation["comparisons"]["sft_vs_base"]["judge/sample"]
    told = evaluation["judge"]["sft_vs_base"]["sample"]
    assert told["judges"][0]["model"] == "judge-x" and told["card"]["self_preference"] == "none"
    assert any("keeps its verdict in only 0%" in warning for warning in told["card"]["warnings"])
    assert (tmp_path / told["labelling_page"]).exists()
    # Nothing is asked again when only the way of summing up changes.
    asked = len(stub.requests)
    again = run_pipeline(tmp_path, "+experiment=smoke", *QUICK, *judged_by(stub.url), "stages.evaluate.statistics.seed=9")
    assert again.code == 0, again.out + again.err
    assert len(stub.requests) == asked
    labels = _labels(tmp_path / told["labelling_page"], tmp_path / "labels.json")
    labelled = run_pipeline(
        tmp_path, "+experiment=smoke", *QUICK, *judged_by(stub.url), f"stages.evaluate.labels={labels}"
    )
    assert labelled.code == 0, labelled.out + labelled.err
    people = labelled.report["evaluation"]["judge"]["sft_vs_base"]["sample"]["card"]["agreement_with_people"]
    assert people["n"] == 3 and len(stub.requests) == asked


def _labels(page: Path, out: Path) -> Path:
    """What the page would save after three choices."""
    import re

    text = page.read_text(encoding="utf-8")
    ids, seed = re.findall(r'data-id="([^"]+)"', text)[:3], re.search(r'data-seed="(\d+)"', text)
    assert seed is not None
    rows = [{"id": name, "choice": choice} for name, choice in zip(ids, ("left", "tie", "right"), strict=True)]
    out.write_text(json.dumps({"format": "provetune-labels-1", "seed": int(seed[1]), "labels": rows}), encoding="utf-8")
    return out


def test_a_judge_that_is_down_is_named(tmp_path: Path) -> None:
    done = run_pipeline(tmp_path, "+experiment=smoke", *QUICK, *judged_by("http://127.0.0.1:9/v1"))
    assert done.code == 3, done.out + done.err
    assert "evaluate/judge/sft_vs_base/sample" in done.err and "127.0.0.1:9" in done.err
    assert "Traceback" not in done.err


def test_failures_are_bounds_and_garbage_is_no_verdict(stub: Stub, tmp_path: Path) -> None:  # noqa: F811
    from tests.eval.judge.conftest import Answer

    stub.default = lambda _: Answer(body=completion("I would rather not say."))
    done = run_pipeline(tmp_path, "+experiment=smoke", *QUICK, *judged_by(stub.url))
    assert done.code == 3 and "judge: none of 8 pairs has a verdict; most often" in done.err, done.out + done.err


def test_a_judge_of_the_own_family_is_refused_until_it_is_forced(stub: Stub, tmp_path: Path) -> None:  # noqa: F811
    """The candidate is the smoke experiment's model under another name: a folder called qwen-something."""
    first = run_pipeline(tmp_path, "+experiment=smoke", *QUICK, "run=[sft]")
    model = tmp_path / "qwen-tiny"
    model.symlink_to(first.artifact("model") / "model")
    mine = ["+experiment=smoke", *QUICK, f"model={model}", *judged_by(stub.url, "Qwen2.5-7B-Instruct")]
    refused = run_pipeline(tmp_path, *mine)
    assert refused.code == 3 and "both are of the family qwen" in refused.err, refused.out + refused.err
    assert "set force_own_family: true and the result is flagged" in refused.err and not stub.requests
    forced = run_pipeline(tmp_path, *mine, "stages.evaluate.judge.force_own_family=true")
    assert forced.code == 0, forced.out + forced.err
    card = forced.report["evaluation"]["judge"]["sft_vs_base"]["sample"]["card"]
    assert card["self_preference"] == "forced" and any("prefer its own kind" in each for each in card["warnings"])
