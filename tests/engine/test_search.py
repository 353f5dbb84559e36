"""Searches by Optuna: what is chosen, learnt and pruned; failures, kills and continuing; what cannot be searched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from pipeline.cli import main
from pipeline.errors import ConfigError
from pipeline.pruning import Rule, read_losses
from pipeline.search import Dimension, Search
from pipeline.search_config import Optuna
from pipeline.sweep import choose_sweeper, dimension
from pipeline.sweep_jobs import Job, Outcome
from tests.conftest import run_pipeline

SMOKE = "+experiment=smoke"
METRIC = "optimise={metric: training.sft.validation.-1.loss, direction: minimize}"
RATE = "stages.sft.learning_rate=tag(log,interval(1e-4,1e-2))"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("stages.sft.learning_rate=interval(1e-5,1e-3)", Dimension("stages.sft.learning_rate", None, 1e-5, 1e-3)),
        (RATE, Dimension("stages.sft.learning_rate", None, 1e-4, 1e-2, log=True)),
        ("stages.sft.adapter.r=int(interval(4,16))", Dimension("stages.sft.adapter.r", None, 4, 16, whole=True)),
        ("seed=1,2", Dimension("seed", ("1", "2"))),
        ("seed=range(1,4)", Dimension("seed", ("1", "2", "3"))),
        ("model=tiny,path", Dimension("model", ("tiny", "path"))),
        ("seed=3", None),
    ],
)
def test_what_an_override_lets_choose(override: str, expected: Dimension | None) -> None:
    assert dimension(override) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["hydra/sweeper=optna"], "hydra/sweeper=optna: unknown sweeper; did you mean optuna?; allowed: basic, optuna"),
        (["hydra/sweeper=optuna", "hydra.sweeper.trails=3"], "did you mean trials?"),
        (["hydra.sweeper.trials=3"], "hydra.sweeper.trials: a grid has no settings; add hydra/sweeper=optuna"),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna: nothing to choose; give a key=interval(low,high) or key=a,b"),
        (["hydra/sweeper=optuna", "seed=1,2"], "nothing to learn from; set optimise={metric: "),
        (
            ["hydra/sweeper=optuna", METRIC, "stages.sft.learning_rate=interval(2e-3,1e-3)"],
            "stages.sft.learning_rate=interval(0.002,0.001): the first bound must be below the second",
        ),
        (["hydra/sweeper=optuna", METRIC, "stages.sft.lerning_rate=interval(1e-3,2e-3)"], "did you mean learning_rate"),
        (["hydra/sweeper=optuna", METRIC, "stages.sft.adapter.r=interval(4,16)"], "sft.adapter.r: 8.44 is not allowed"),
        (["hydra/sweeper=optuna", METRIC, RATE, "mode=plan"], "mode=plan: a search chooses as it goes; plan one of"),
        (
            ["hydra/sweeper=optuna", METRIC, RATE, "stages.sft.validate_every=null"],
            "hydra.sweeper.prune: no stage of the run has validate_every; set it, or prune=null",
        ),
    ],
)
def test_what_cannot_be_searched_is_told_at_once(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["-m", SMOKE, *arguments, f"outputs={tmp_path / 'none'}"])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith("error: ") and expected in err and err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import pipeline.search

    monkeypatch.setattr(pipeline.search.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        main(["-m", SMOKE, "hydra/sweeper=optuna", METRIC, RATE])
    assert "hydra/sweeper=optuna: needs optuna; pip install 'provetune[optuna]'" in capsys.readouterr().err


SPACE = (Dimension("x", None, -5.0, 5.0), Dimension("y", ("a", "b")))


def parabola(job: Job) -> Outcome:
    """The least is at x = 2 with y = b."""
    chosen = dict(override.split("=") for override in job.overrides)
    value = (float(chosen["x"]) - 2) ** 2 + (chosen["y"] == "a")
    return Outcome(job.number, job.overrides, "ran", values=[value])


def search(folder: Path, run: Callable[[Job], Outcome] = parabola, **settings: Any) -> Search:
    def run_all(jobs: list[Job]) -> Iterator[Outcome]:
        for job in jobs:
            outcome = run(job)
            Path(job.folder).mkdir(parents=True, exist_ok=True)
            yield outcome

    def make(number: int, chosen: list[str], rule: dict[str, Any] | None) -> Job:
        return Job(number, chosen, {}, str(folder / str(number)), rule)

    directions: Any = settings.pop("directions", ["minimize"])
    sweeper = Optuna.model_validate({"kind": "optuna", "trials": 12, "startup": 4, "seed": 7} | settings)
    return Search(sweeper, SPACE, directions, folder, make, run_all, settings.get("at_once", 1))


def test_the_sampler_is_optunas_own(tmp_path: Path) -> None:
    """The oracle: the same trials asked and told without any of our code, from the first one that learns on."""
    ours = search(tmp_path)
    outcomes = list(ours.go())
    plain = optuna.create_study(direction="minimize")
    for number, outcome in enumerate(outcomes):
        plain.sampler = optuna.samplers.TPESampler(seed=7 * 1_000_003 + number, n_startup_trials=4)
        trial = plain.ask({one.key: one.distribution() for one in SPACE})
        assert [f"{key}={value}" for key, value in trial.params.items()] == outcome.overrides
        plain.tell(trial, outcome.values)
    assert ours.front() == [plain.best_trial.number]


def test_tpe_finds_what_random_trials_do_not(tmp_path: Path) -> None:
    """Median over ten seeds of the best of thirty trials."""

    def best(sampler: str, seed: int) -> float:
        outcomes = search(tmp_path / f"{sampler}{seed}", trials=30, sampler=sampler, seed=seed).go()
        return min(outcome.values[0] for outcome in outcomes)

    tpe, chance = (sorted(best(sampler, seed) for seed in range(10))[5] for sampler in ("tpe", "random"))
    assert tpe < chance


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("after", [2, 5])
def test_a_killed_search_continues_as_if_nothing_had_happened(tmp_path: Path, at_once: int, after: int) -> None:
    whole = [outcome.overrides for outcome in search(tmp_path / "whole", at_once=at_once).go()]
    ran: list[int] = []

    def deadly(job: Job) -> Outcome:
        if len(ran) == after:
            raise KeyboardInterrupt
        ran.append(job.number)
        return parabola(job)

    with pytest.raises(KeyboardInterrupt):
        list(search(tmp_path / "cut", deadly, at_once=at_once).go())
    resumed = search(tmp_path / "cut", at_once=at_once)
    again = list(resumed.go())
    assert [job.overrides for job in resumed.trials()] == whole
    assert not {outcome.number for outcome in again} & set(ran), "no trial runs twice"
    assert not list(search(tmp_path / "cut", at_once=at_once).go()), "nothing is missing any more"
    more = search(tmp_path / "cut", at_once=at_once, trials=15)
    assert len(list(more.go())) == 3


def test_failed_trials_do_not_end_a_search_and_are_made_up_for(tmp_path: Path) -> None:
    def weak(job: Job) -> Outcome:
        return parabola(job) if job.number % 2 else Outcome(job.number, job.overrides, "failed", 4, message="no")

    failing = search(tmp_path, weak, trials=6)
    outcomes = list(failing.go())
    assert len(outcomes) == 6 and [outcome.code for outcome in outcomes] == [4, 0] * 3
    assert len(list(search(tmp_path, trials=6).go())) == 3, "the same command makes up for three"
    hopeless = search(tmp_path / "hopeless", lambda job: Outcome(job.number, job.overrides, "failed", 4), trials=6)
    assert len(list(hopeless.go())) == 6 and hopeless.front() == []


def test_a_stopped_trial_ends_the_search_and_runs_again(tmp_path: Path) -> None:
    def stopped(job: Job) -> Outcome:
        return Outcome(job.number, job.overrides, "stopped", 75) if job.number == 2 else parabola(job)

    assert [outcome.number for outcome in search(tmp_path, stopped).go()] == [0, 1, 2]
    assert [outcome.number for outcome in search(tmp_path).go()][0] == 2


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    def both(job: Job) -> Outcome:
        x = float(dict(override.split("=") for override in job.overrides)["x"])
        return Outcome(job.number, job.overrides, "ran", values=[x**2, (x - 2) ** 2])

    found = search(tmp_path, both, directions=["minimize", "minimize"])
    values = {outcome.number: outcome.values for outcome in found.go()}

    def beaten(one: int) -> bool:
        return any(
            all(theirs <= ours for theirs, ours in zip(values[other], values[one], strict=True))
            and values[other] != values[one]
            for other in values
        )

    assert found.front() == [number for number in values if not beaten(number)]


def test_two_commands_do_not_run_one_search(tmp_path: Path) -> None:
    first = search(tmp_path).go()
    next(first)
    with pytest.raises(ConfigError, match="another process runs this search; wait for its end"):
        next(search(tmp_path).go())
    first.close()


def test_the_median_rule_is_optunas(tmp_path: Path) -> None:
    """Random curves: our table against MedianPruner, trial by trial and step by step."""
    import random

    curves = random.Random(3)
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2))
    decisions: list[bool] = []
    for number in range(15):
        rule = Rule(str(tmp_path), number, after=4, start=2)
        trial, level = study.ask(), curves.random()
        for step in range(1, 8):
            loss = level + curves.random()
            trial.report(loss, step)
            with rule.file("sft/train").open("a", encoding="utf-8") as table:
                table.write(json.dumps({"step": step, "loss": loss}) + "\n")
            decisions.append(trial.should_prune())
            assert (rule.worse("sft/train", step) is not None) == decisions[-1], (number, step)
        study.tell(trial, 1.0)
    assert 10 < sum(decisions) < 70


def test_a_torn_line_and_a_repeated_step(tmp_path: Path) -> None:
    file = tmp_path / "x-0.jsonl"
    file.write_text('{"step": 5, "loss": 2.0}\n{"step": 5, "loss": 1.0}\n{"step": 10, "lo', encoding="utf-8")
    assert read_losses(file) == {5: 1.0} and read_losses(tmp_path / "none") == {}


def test_pruned_trials_teach_the_sampler(tmp_path: Path) -> None:
    def pruned(job: Job) -> Outcome:
        table = tmp_path / "validation"
        table.mkdir(exist_ok=True)
        (table / f"sft.train-{job.number}.jsonl").write_text('{"step": 5, "loss": 3.5}\n', encoding="utf-8")
        return Outcome(job.number, job.overrides, "pruned") if job.number == 3 else parabola(job)

    found = search(tmp_path, pruned)
    assert len(list(found.go())) == 12
    trial = found._study().trials[3]
    assert trial.state == optuna.trial.TrialState.PRUNED and trial.intermediate_values == {5: 3.5}


def test_the_settings_of_a_search() -> None:
    sweeper, rest = choose_sweeper(["hydra/sweeper=optuna", "hydra.sweeper.prune=null", "seed=1,2"])
    assert sweeper is not None and sweeper.prune is None and rest == ["seed=1,2"]
    assert choose_sweeper(["hydra/sweeper=basic", "seed=1"]) == (None, ["seed=1"])


TINY = (
    *(SMOKE, "run=[filter,sft]", "stages.sft.max_steps=8", "stages.sft.validate_every=4", METRIC),
    *("hydra/sweeper=optuna", "hydra.sweeper.startup=2", "hydra.sweeper.prune_after=2", "hydra.sweeper.trials=5"),
)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_real_search_is_killed_and_continues(copied: Path) -> None:
    """Killed in its third trial; nothing runs twice; pruned trials are listed; the best one is named."""
    command = [sys.executable, "-m", "pipeline", "-m", *TINY, RATE, f"outputs={copied}"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(copied.glob("sweeps/*/2/started.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ended = {file: file.stat().st_mtime_ns for file in copied.glob("sweeps/*/*/outcome.json")}
    assert len(ended) == 2
    done = run_pipeline(copied, "-m", *TINY, RATE)
    assert done.code == 0, done.out + done.err
    assert all(file.stat().st_mtime_ns == moment for file, moment in ended.items()), "ended trials stay as they are"
    (file,) = copied.glob("sweeps/*/sweep.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    status = {job["number"]: job["status"] for job in record["jobs"]}
    assert sorted(status) == [0, 1, 2, 3, 4] and set(status.values()) <= {"ran", "pruned"}
    values = {job["number"]: job["values"][0] for job in record["jobs"] if job["values"]}
    assert record["best"] == [min(values, key=lambda number: values[number])]
    assert f"best: job {record['best'][0]}" in done.out


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_bad_trial_is_pruned_in_its_training(copied: Path) -> None:
    """The first trial learns, the others cannot: the median ends them early, and that is no failure."""
    settings = ("sampler=random", "seed=4", "prune_after=1", "trials=3")
    rates = "stages.sft.learning_rate=1e-2,1e-9"
    done = run_pipeline(copied, "-m", *TINY, *(f"hydra.sweeper.{setting}" for setting in settings), rates)
    assert done.code == 0, done.out + done.err
    (file,) = copied.glob("sweeps/*/sweep.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    jobs = {job["number"]: job for job in record["jobs"]}
    assert [jobs[number]["status"] for number in range(3)] == ["ran", "pruned", "pruned"] and record["best"] == [0]
    for number, rate in enumerate(("0.01", "1e-09", "1e-09")):
        assert f"stages.sft.learning_rate={rate}" in jobs[number]["overrides"]
    assert "pruned at step 4: above the median validation loss of the other trials" in jobs[1]["message"]
    assert "have not succeeded" not in done.out
