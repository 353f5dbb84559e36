"""A judge in the evaluate stage: a stub server end to end, its refusals, and what the report holds."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Finished, run_pipeline
from tests.eval.judge.conftest import Answer, Stub, completion, stub  # noqa: F401

pytestmark = pytest.mark.end_to_end


def judged_by(url: str, *more: str) -> list[str]:
    return [
        "+judge@stages.evaluate.judge=server",
        f"stages.evaluate.judge.judges.main.base_url='{url}'",
        "stages.evaluate.judge.judges.main.model=judge-x",
        "stages.evaluate.judge.judges.main.retries=0",
        *more,
    ]


def smoke_with(copied: Path, *overrides: str) -> Finished:
    """The smoke experiment again: all but judge and comparison is cached."""
    return run_pipeline(copied, "+experiment=smoke", *overrides)


def test_a_judge_behind_a_server_end_to_end(stub: Stub, copied: Path, tmp_path: Path) -> None:  # noqa: F811
    """The first answer shown always wins: so the two orders never agree, and nobody wins."""
    first = smoke_with(copied, *judged_by(stub.url, "stages.evaluate.judge.injections=true"))
    assert first.code == 0, first.out + first.err
    evaluation = first.report["evaluation"]
    values = evaluation["models"]["sft"]["judge/sample"]
    assert stub.requests and values["win_rate"] == pytest.approx(0.5) and values["parse_failures"] == 0
    assert values["order_consistency"] == 0.0
    compared = evaluation["comparisons"]["sft_vs_base"]["judge/sample"]
    entry = compared["win_rate"]
    assert entry["n"] == 16 and entry["difference"] == 0 and entry["verdict"] == "cannot tell"
    assert entry["p"] <= entry["p_holm"] and "length_controlled_win_rate" in compared
    assert entry["detectable"] is None  # every pair is a tie: nothing says what so many could have shown
    told = evaluation["judge"]["sft_vs_base"]["sample"]
    assert told["judges"][0]["model"] == "judge-x" and told["card"]["self_preference"] == "none"
    assert any("keeps its verdict in only 0%" in warning for warning in told["card"]["warnings"])
    turned = told["card"]["injections"][f"judge-x at {stub.url}"]  # it does not listen to what answers say
    assert turned["turned"]["value"] == turned["turned_by_harmless_text"]["value"] == 0 and turned["tries"] > 70
    page = copied / told["labelling_page"]
    # Nothing is asked again when only the way of summing up changes, or a person's labels come.
    asked, labels = len(stub.requests), labels_of(page, tmp_path / "labels.json")
    again = smoke_with(
        copied,
        *judged_by(stub.url, "stages.evaluate.judge.injections=true", "stages.evaluate.statistics.seed=9"),
        f"stages.evaluate.labels={labels}",
    )
    assert again.code == 0, again.out + again.err
    people = again.report["evaluation"]["judge"]["sft_vs_base"]["sample"]["card"]["agreement_with_people"]
    assert people["n"] == 3 and len(stub.requests) == asked


def labels_of(page: Path, out: Path) -> Path:
    """What the page would save after three choices."""
    text = page.read_text(encoding="utf-8")
    ids, seed = re.findall(r'data-id="([^"]+)"', text)[:3], re.search(r'data-seed="(\d+)"', text)
    assert seed is not None
    rows = [{"id": name, "choice": choice} for name, choice in zip(ids, ("left", "tie", "right"), strict=True)]
    saved = {"format": "provetune-labels-1", "seed": int(seed[1]), "labels": rows}
    out.write_text(json.dumps(saved), encoding="utf-8")
    return out


def test_a_judge_that_prefers_the_tuned_answers_gives_a_verdict(stub: Stub, copied: Path) -> None:  # noqa: F811
    """An oracle that knows the tuned answers: won everywhere, so significant, and Holm counts it among the rest."""
    tuned = {
        json.loads(line)["output"]
        for file in (copied / "artifacts/evaluate.predict").glob("*/sample.generation.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    }
    assert tuned
    base_file = run_pipeline(copied, "+experiment=smoke").artifact("evaluate/sft") / "sample.generation.jsonl"
    preferred = {json.loads(line)["output"].strip() for line in base_file.read_text(encoding="utf-8").splitlines()}

    def decide(request: dict) -> Answer:
        text = request["messages"][-1]["content"]
        first = re.search(r"ANSWER A.*?\n(.*?)\n[^|]", text, re.DOTALL)
        shown = "\n".join(line.lstrip("| ") for line in (first[1] if first else "").split("\n"))
        label = "A" if any(answer and answer in shown for answer in preferred) else "B"
        return Answer(body=completion(json.dumps({"rationale": "", "verdict": label})))

    stub.default = decide
    done = smoke_with(copied, *judged_by(stub.url))
    assert done.code == 0, done.out + done.err
    entry = done.report["evaluation"]["comparisons"]["sft_vs_base"]["judge/sample"]["win_rate"]
    consistency = done.report["evaluation"]["models"]["sft"]["judge/sample"]["order_consistency"]
    assert entry["tuned"] == 1.0 and consistency == 1.0 and entry["verdict"] == "better" and entry["p_holm"] < 0.05


def test_a_judge_that_is_down_is_named(copied: Path) -> None:
    done = smoke_with(copied, *judged_by("http://127.0.0.1:9/v1"))
    assert done.code == 3, done.out + done.err
    assert "evaluate/judge/sft_vs_base/sample" in done.err and "127.0.0.1:9" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow  # the library's tests hold the same promise
def test_garbage_is_no_verdict(stub: Stub, copied: Path) -> None:  # noqa: F811
    stub.default = lambda _: Answer(body=completion("I would rather not say."))
    done = smoke_with(copied, *judged_by(stub.url))
    assert done.code == 3 and "judge: none of 16 pairs has a verdict; most often" in done.err, done.out + done.err


def test_the_judged_model_itself_is_refused_as_a_judge_until_it_is_forced(
    smoke: Finished, copied: Path, tmp_path: Path
) -> None:
    """A local judge that is the base model with a longer context: its network has the same shape."""
    judge = Path(shutil.copytree(smoke.artifact("model") / "model", tmp_path / "judge"))
    config = json.loads((judge / "config.json").read_text(encoding="utf-8"))
    (judge / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}), encoding="utf-8")
    chosen = ["+judge@stages.evaluate.judge=local", f"stages.evaluate.judge.judges.main.model={judge}"]
    refused = smoke_with(copied, *chosen)
    assert refused.code == 3 and "both are llama networks of the same shape" in refused.err, refused.out + refused.err
    assert "set force_own_family: true and the result is flagged" in refused.err
    forced = smoke_with(copied, *chosen, "stages.evaluate.judge.force_own_family=true")
    assert forced.code == 0, forced.out + forced.err
    told = forced.report["evaluation"]["judge"]["sft_vs_base"]["sample"]
    assert told["card"]["self_preference"] == "forced" and told["judges"][0]["kind"] == "local"
    assert any("prefer its own kind" in each for each in told["card"]["warnings"])
