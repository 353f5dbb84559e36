"""Several runs: ranking, honest winners, Pareto fronts, refusals, the index; paired tests on real predictions."""

import copy
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.__main__ import main
from pipeline.report.comparison import index
from pipeline.report.comparison.build import Comparison, build, front
from pipeline.report.comparison.entry import Entry, entry_from_json, entry_of
from pipeline.report.comparison.laws import laws_of
from pipeline.report.comparison.page import html, markdown
from pipeline.report.comparison.words import headline, notes
from pipeline.report.load import ReportError
from tests.conftest import Finished

SAMPLE = json.loads((Path(__file__).parent / "sample_report.json").read_text("utf-8"))
BITS = "bits_per_byte"


def synthetic(number: int, score: float | None = None, **config: Any) -> dict[str, Any]:
    """The sample as run `number`, with its own score, learning rate and cost."""
    report = copy.deepcopy(SAMPLE)
    report["run"] |= {"id": f"run-{number:03}", "started": f"2026-11-21T00:{number // 60:02}:{number % 60:02}+00:00"}
    report["evaluation"]["models"]["sft"]["perplexity/xsum"][BITS] = 2.0 + number if score is None else score
    report["config"]["stages"]["sft"] |= {"learning_rate": 1e-4 * (number + 1)} | config
    for stage in report["stages"]:
        if stage["name"] == "sft/train":
            stage["seconds"] = 100.0 - number
    return report


def write_runs(folder: Path, reports: list[dict[str, Any]]) -> Path:
    for report in reports:
        run = folder / report["run"]["id"]
        run.mkdir(parents=True)
        (run / "report.json").write_text(json.dumps(report), "utf-8")
    return folder


def entries(*reports: dict[str, Any]) -> list[Entry]:
    return [entry_of(report, Path(report["run"]["id"])) for report in reports]


def with_cells(monkeypatch: pytest.MonkeyPatch, verdict: Callable[[Entry], str]) -> None:
    def paired(base: Entry, other: Entry, task: str, metric: str) -> dict[str, Any]:
        return {"difference": 0.1, "low": 0.05, "high": 0.15, "n": 54, "verdict": verdict(other)}

    monkeypatch.setattr("pipeline.report.comparison.build.paired", paired)


def test_the_best_comes_first_and_each_setting_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cells(monkeypatch, lambda _: "worse")
    found = build(entries(synthetic(2), synthetic(0), synthetic(1)), [])
    assert [run.entry.id for run in found.runs] == ["run-000", "run-001", "run-002"]
    assert list(found.settings) == ["stages.sft.learning_rate"]
    assert found.settings["stages.sft.learning_rate"] == pytest.approx([1e-4, 2e-4, 3e-4])
    tone, sentence = headline(found)
    assert tone == "better" and sentence.startswith("run-000 has the lowest bits per byte (2) on perplexity/xsum")
    assert "which is more than noise" in sentence
    page, text = html(found), markdown(found)
    for shown in (page, text):
        assert "behind the best" in shown and "confirm it on rows that chose nothing" in shown
    assert page.count("<figure") == 3 and "stages.sft.learning_rate" in page
    assert html(found) == page


def pretrained(number: int, size: float) -> dict[str, Any]:
    """A run that pretrained a model of a size, on L(N) = 1 + 50 N^-0.3."""
    report = synthetic(number, score=1 + 50 * size**-0.3)
    metrics = {"trainable_parameters": size}
    report["stages"].append({"name": "pretrain/train", "kind": "pretrain.train", "tokens": 1e6, "metrics": metrics})
    return report


def test_runs_that_pretrain_get_their_scaling_law(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cells(monkeypatch, lambda _: "worse")
    sizes = (1e5, 2e5, 4e5, 8e5, 1.6e6)
    found = build(entries(*(pretrained(number, size) for number, size in enumerate(sizes))), [])
    [along_size, _] = laws_of(found)  # parameters, compute
    assert along_size.predicted == pytest.approx(1 + 50 * sizes[-1] ** -0.3, rel=1e-3)
    page = html(found)
    assert "Fitted without run-004, it told" in page and page == html(found)
    assert "Fitted without run-004, it told" in markdown(found)
    assert page.count("<figure") == page.count("<table") + 1  # both cost figures share the table of runs
    assert not laws_of(build(entries(*(synthetic(number) for number in range(5))), []))
    by_rouge = build(entries(*(pretrained(number, size) for number, size in enumerate(sizes))), [], best="rougeL")
    assert not laws_of(by_rouge)


def test_the_best_run_tells_its_own_gain_with_the_interval() -> None:
    told = notes(build(entries(synthetic(0), synthetic(1)), []))
    assert any("changed bits per byte by −0.106 (−0.125 to −0.087)" in line for line in told)


def test_a_winner_within_noise_is_no_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cells(monkeypatch, lambda other: "cannot tell" if other.id != "run-003" else "worse")
    tone, sentence = headline(build(entries(*(synthetic(n) for n in range(4))), []))
    assert tone == "unsure" and sentence.startswith("Cannot tell which is best: run-000 has the lowest")
    assert "2 other runs are within noise of it (run-001, run-002)" in sentence
    assert sentence.endswith("The cheapest of them is run-002.")


def test_another_metric_decides_when_asked() -> None:
    higher = synthetic(5)
    higher["evaluation"]["models"]["sft"]["rouge/xsum"]["rougeL"] = 0.9
    found = build(entries(synthetic(0), higher), [], best="rougeL")
    assert (found.task, found.metric, found.runs[0].entry.id) == ("rouge/xsum", "rougeL", "run-005")
    assert build(entries(synthetic(0), higher), [], "perplexity/general:bits_per_byte").task == "perplexity/general"
    with pytest.raises(ReportError, match="--best speed: no such metric; these runs have bits_per_byte"):
        build(entries(synthetic(0), higher), [], best="speed")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
@settings(deadline=None)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    """Against the definition, pair by pair."""
    made = [
        Entry(str(n), str(n), "", "", "m", None, {"t": {BITS: score}}, {}, {}, {}, {"seconds": price}, {})
        for n, (score, price) in enumerate(points)
    ]
    expected = {
        str(n)
        for n, one in enumerate(points)
        if not any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in points)
    }
    assert front(made, "t", BITS, "seconds") == expected


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    report = synthetic(1)
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return report


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("data", "xsum", "split_sha256", "test"), "xsum: test rows: "),
        (("evaluation", "policies", "xsum", "template_sha256"), "xsum: template_sha256: "),
        (("evaluation", "policies", "xsum", "generation"), "xsum: generation: "),
    ],
)
def test_runs_that_were_not_evaluated_alike_are_refused(path: tuple[str, ...], message: str) -> None:
    with pytest.raises(ReportError) as refused:
        build(entries(synthetic(0), changed(path, "something else")), [])
    text = str(refused.value)
    assert text.startswith("run-000 and run-001 cannot be compared, they were not evaluated alike; " + message)
    assert "something else in the other; evaluate both with the same" in text and "\n" not in text


def test_runs_with_other_data_sets_are_refused() -> None:
    other = synthetic(1)
    other["evaluation"]["policies"] = {"news": other["evaluation"]["policies"]["xsum"]}
    with pytest.raises(ReportError, match="data sets: .*xsum.* in the one, news in the other"):
        build(entries(synthetic(0), other), [])


def test_too_few_runs_are_told_with_the_reason() -> None:
    idle = synthetic(1) | {"evaluation": {}, "verdict": None}
    idle["run"] |= {"failed": {"stage": "sft/train"}}
    with pytest.raises(ReportError, match=r"1 run with metrics; a comparison needs two \(run-001: stopped before"):
        build(entries(synthetic(0), idle), [])


def test_an_index_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_runs(tmp_path / "runs", [synthetic(n) for n in range(5)])
    (folder / "latest").symlink_to("run-004")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "report.json").write_text('{"name": 1}')
    (folder / "newer").mkdir()
    (folder / "newer" / "report.json").write_text('{"schema_version": 99, "run": {}}')
    read = []
    original = index._read
    monkeypatch.setattr(index, "_read", lambda file: read.append(file.parent.name) or original(file))
    first, refused = index.read_index(folder)
    assert [entry.id for entry in first] == [f"run-{n:03}" for n in range(5)] and len(read) == 7
    assert len(refused) == 2 and "no report of a Provetune run" in refused[0] and "newer than this" in refused[1]
    read.clear()
    assert index.read_index(folder)[0] == first and read == ["foreign", "newer"]
    (folder / "run-002" / "report.json").write_text(json.dumps(synthetic(2, score=1.0)))
    shutil.rmtree(folder / "run-003")
    again, _ = index.read_index(folder)
    assert [entry.id for entry in again] == ["run-000", "run-001", "run-002", "run-004"]
    assert again[2].score("perplexity/xsum", BITS) == 1.0 and read.count("run-002") == 1
    (folder / index.INDEX).write_bytes(b"no database")
    assert index.read_index(folder)[0] == again
    with sqlite3.connect(folder / index.INDEX) as base:
        assert base.execute("SELECT count(*) FROM runs").fetchone() == (4,)


def test_entries_survive_the_index() -> None:
    [entry] = entries(synthetic(3))
    assert entry_from_json(json.loads(json.dumps(entry.as_json()))) == entry


def test_hundreds_of_runs_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(1)
    folder = write_runs(tmp_path / "runs", [synthetic(n, score=draw.uniform(1, 3)) for n in range(300)])
    assert main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "… and 280 more in the page" in out and "Paired tests compare the best with the next 12 runs only." in out
    page = Path(out.splitlines()[-1])
    assert page.parent.parent == tmp_path / "comparisons" and page.stat().st_size <= 2 * 2**20
    told = json.loads((page.parent / "comparison.json").read_text("utf-8"))
    scores = [run["score"] for run in told["runs"]]
    assert len(scores) == 300 and scores == sorted(scores)
    assert told["runs"][1]["not_tested"] and "manifest.json: no such file" in told["runs"][1]["not_tested"]


def test_hostile_names_stay_text(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "<script>alert(1)</script>$x$ | {{ 7 }}\x1b[31m"
    with_cells(monkeypatch, lambda _: "worse")
    reports = [synthetic(n, from_=f"{evil}{n}") for n in range(2)]
    for report in reports:
        report["run"]["id"] += evil
    found = build(entries(*reports), [evil])
    page = html(found)
    assert "<script>alert" not in page and "\x1b" not in page + markdown(found)
    assert page.count("<script>") == 1 and "&lt;script&gt;alert" in page


@pytest.mark.end_to_end
def test_paired_differences_come_from_the_stored_predictions(
    smoke: Finished, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run B is run A with half the loss: the paired difference is known in advance."""
    better = copied / "runs" / "better"
    shutil.copytree((copied / "runs" / "latest").resolve(), better)
    report = json.loads((better / "report.json").read_text("utf-8"))
    report["run"]["id"] = "better"
    folder = copied / next(stage["artifact"] for stage in report["stages"] if stage["name"] == "evaluate/sft")
    file = folder / "sample.perplexity.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    file.write_text("".join(json.dumps(row | {"nll": row["nll"] / 2}) + "\n" for row in rows), "utf-8")
    scores = report["evaluation"]["models"]["sft"]["perplexity/sample"]
    before = scores[BITS]
    scores[BITS] /= 2
    (better / "report.json").write_text(json.dumps(report), "utf-8")
    assert main([str(better), str(smoke.outputs / "runs" / smoke.run), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "better has the lowest bits per byte" in out and "which is more than noise" in " ".join(out.split())
    told = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    cell = told["runs"][1]["against_best"]
    assert cell["difference"] == pytest.approx(before / 2) and cell["low"] < cell["difference"] < cell["high"]
    assert told["runs"][1]["id"] == smoke.run and cell["n"] == 54


def test_wrong_requests_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_runs(tmp_path / "runs", [synthetic(0)])
    for arguments, message in (
        ([str(folder)], "1 run with metrics; a comparison needs two"),
        ([str(folder / "run-000"), str(tmp_path / "none")], "no such run; give"),
        ([str(folder / "run-000"), str(tmp_path)], "no such file; a run writes it when it ends"),
        ([str(folder / "run-000"), "--best", "x"], "--best: goes with a comparison; give at least two runs"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_comparison_knows_its_own_words() -> None:
    found = Comparison("rouge/xsum", "rougeL", [], {}, [])
    assert found.label == "ROUGE-L, rouge/xsum" and not found.lower_is_better
