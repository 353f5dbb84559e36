"""An evaluation shared by ranks, by Ray, or asked of a server: the same predictions, each row once, whoever dies."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_prep.errors import DataError
from pipeline.cli import compose
from pipeline.config import RunConfig, validate
from pipeline.errors import ConfigError
from pipeline.plan import Plan, make_plan
from pipeline.stages.evaluate.spread import ShareTask, await_visible, run_share
from tests.conftest import Finished, run_pipeline
from tests.eval.judge.conftest import Answer, Stub, stub  # noqa: F401

RANKS = ("launch=cpu_ranks", "launch.processes=2")
LONG = (
    *("+experiment=smoke", "run=[filter,evaluate]", "stages.evaluate.compare=[base]"),
    "stages.evaluate.generation={max_rows: null, max_new_tokens: 160, batch_size: 2}",
)
"""Some 50 answers of 160 tokens of an untrained model: long enough to be killed in."""
SEED = int(os.environ.get("PROVETUNE_SEED", "1"))
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")


def plan(tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(validate(RunConfig, compose(["+experiment=smoke", *overrides, f"outputs={tmp_path}"])))


def test_who_shares_the_rows_changes_no_fingerprint(tmp_path: Path) -> None:
    plans = [plan(tmp_path), plan(tmp_path, *RANKS), plan(tmp_path, "stages.evaluate.spread=ray")]
    assert len({tuple(step.node.fingerprint for step in each.steps) for each in plans}) == 1
    on_ranks = [{step.node.kind for step in each.steps if step.node.ranks} for each in plans]
    assert on_ranks[1] == on_ranks[2] | {"sft.train", "evaluate.predict"} and "evaluate.predict" not in on_ranks[0]
    alone = plan(tmp_path, *RANKS, "stages.evaluate.spread=one")
    assert not any(step.node.ranks for step in alone.steps if step.node.kind == "evaluate.predict")


def test_judges_that_run_here_are_shared_and_servers_are_not(tmp_path: Path) -> None:
    for kind, shared in (("local", True), ("server", False)):
        judge = (f"+judge@stages.evaluate.judge={kind}", "stages.evaluate.judge.judges.main.model=NAME")
        [node] = [step.node for step in plan(tmp_path, *RANKS, *judge).steps if step.node.kind == "evaluate.judge"]
        assert node.ranks == shared


def test_a_served_name_for_every_model(tmp_path: Path) -> None:
    server = "stages.evaluate.generation.server={base_url: 'http://localhost:1/v1', served: {base: a%s}}"
    engine = "stages.evaluate.generation.engine=server"
    with pytest.raises(ConfigError, match=r"stages.evaluate.generation.server.served: no name for the model 'sft'"):
        plan(tmp_path, engine, server % "")
    nodes = {step.node.name: step.node for step in plan(tmp_path, engine, server % ", sft: b").steps}
    told = {name: nodes[f"evaluate/{name}"].config["generation"]["server"]["served"] for name in ("base", "sft")}
    assert {name: list(served) for name, served in told.items()} == {"base": ["base"], "sft": ["sft"]}
    faster = plan(tmp_path, engine, server % ", sft: b", "stages.evaluate.generation.server.concurrency=64")
    assert {step.node.fingerprint for step in faster.steps} == {node.fingerprint for node in nodes.values()}


@pytest.mark.end_to_end
def test_two_ranks_predict_what_one_process_does(smoke: Finished, copied: Path) -> None:
    """The artifact of one model is made again on two ranks; the training and the other model are cached."""
    before = smoke.artifact("evaluate/base")
    shutil.rmtree(copied / before.relative_to(smoke.outputs))
    ranks = run_pipeline(copied, "+experiment=smoke", *RANKS)
    assert ranks.code == 0, ranks.out + ranks.err
    after = ranks.artifact("evaluate/base")
    assert {file.name for file in (after / "logs").glob("rank*.log")} == {"rank0.log", "rank1.log"}
    made = [file for file in sorted(before.iterdir()) if file.suffix == ".jsonl" or file.name == "policies.json"]
    assert len(made) == 3
    for file in made:
        assert (after / file.name).read_bytes() == file.read_bytes(), file.name
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (before, after))
    assert {name for name in one if one[name] != two.get(name)} <= {name for name in one if "second" in name}
    assert not (after / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("spread", [RANKS, ("stages.evaluate.spread={kind: ray, workers: 2}",)], ids=["ranks", "ray"])
def test_a_judge_that_runs_here_judges_alike(
    spread: tuple[str, ...], smoke: Finished, copied: Path, tmp_path: Path
) -> None:
    """The base model itself as a judge, by force: verdicts and summary are those of one process."""
    if spread is not RANKS and find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    model = Path(shutil.copytree(smoke.artifact("model") / "model", tmp_path / "judge"))
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 4096}), encoding="utf-8")
    judge = ("+judge@stages.evaluate.judge=local", f"stages.evaluate.judge.judges.main.model={model}")
    found = []
    for overrides in ((), spread):
        done = run_pipeline(
            copied, "+experiment=smoke", *judge, "stages.evaluate.judge.force_own_family=true", *overrides
        )
        assert done.code == 0, done.out + done.err
        folder = done.artifact("evaluate/judge/sft_vs_base/sample")
        rows = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
        found.append((rows, json.loads((folder / "summary.json").read_text())))
        ranks = {file.name for file in (folder / "logs").glob("rank*.log")}
        assert ranks == ({"rank0.log", "rank1.log"} if overrides is RANKS else {"rank0.log"})
        shutil.rmtree(folder)
    (alone, one), (shared, two) = found
    assert len(alone) == 32 and [row["winner"] for row in alone] == [row["winner"] for row in shared]
    for row, other in zip(alone, shared, strict=True):
        assert row["preference"] == pytest.approx(other["preference"], abs=1e-6)
    assert one["metrics"] == pytest.approx(two["metrics"], abs=1e-5)


def test_files_that_a_file_system_shows_late_are_waited_for(tmp_path: Path) -> None:
    def write() -> None:
        time.sleep(0.3)
        (tmp_path / "a.partial.1-of-2").write_bytes(b"12345")

    late = threading.Thread(target=write)
    late.start()
    await_visible(tmp_path, {"a.partial.1-of-2": 5})
    assert (tmp_path / "a.partial.1-of-2").stat().st_size == 5
    late.join()
    await_visible(tmp_path, {"never": 5}, seconds=0.2)  # what is not there is computed again


def test_a_node_with_other_code_is_refused(tmp_path: Path) -> None:
    other = (("torch", "1.0"),)
    task = ShareTask("share-0-of-1", "evaluate.predict", "{}", (), str(tmp_path), (0, 1), other)
    with pytest.raises(
        DataError, match=r"^spread.kind=ray: node \S+ has torch \S+, this machine 1.0; install the same v"
    ):
        run_share(task, tmp_path)


class Kept:
    """Every line that any process keeps of its rows: hard links to the partial files, which are only ever added to."""

    def __init__(self, outputs: Path, logs: Path):
        self.outputs, self.logs = outputs, logs
        logs.mkdir()

    def look(self) -> int:
        """Link what is new; how many rows are kept by now."""
        for file in self.outputs.glob("artifacts/evaluate.predict/*/checkpoints/*.partial*"):
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                os.link(file, self.logs / f"{file.name}.{file.stat().st_ino}")
        return sum(len(self.ids(file)) for file in self.logs.iterdir())

    def ids(self, file: Path) -> list[str]:
        return [json.loads(line)["id"] for line in file.read_bytes().split(b"\n")[1:-1]]

    def counts(self, measure: str) -> Counter[str]:
        return Counter(name for file in self.logs.glob(f"*.{measure}.*") for name in self.ids(file))


def run_and_kill(
    kept: Kept, overrides: tuple[str, ...], victims: Callable[[psutil.Process], list[psutil.Process]], chance: Any
) -> int | None:
    """One start, in which a victim is killed some time after another row was kept; None where it ended before that."""
    command = [sys.executable, "-m", "pipeline", *LONG, *overrides, f"outputs={kept.outputs}"]
    log = (kept.outputs.parent / "tries.log").open("ab")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    before, due, killed = kept.look(), None, False
    while process.poll() is None:
        if kept.look() > before and due is None:
            due = time.monotonic() + chance.uniform(0.0, 1.5)
        if due is not None and time.monotonic() >= due and not killed:
            found = victims(psutil.Process(process.pid))
            if found:
                chance.choice(found).send_signal(signal.SIGKILL)
                killed = True
        time.sleep(0.01)
    return process.returncode if killed else None


def undisturbed(kept: Kept, overrides: tuple[str, ...]) -> int:
    """A start without kills."""
    none: Callable[[psutil.Process], list[psutil.Process]] = lambda _: []  # noqa: E731
    assert run_and_kill(kept, overrides, none, random.Random(0)) is None
    return run_pipeline(kept.outputs, *LONG, *overrides).code


def ranks_of(parent: psutil.Process) -> list[psutil.Process]:
    return [one for one in parent.children(recursive=True) if "pipeline.worker" in _title(one) and _rank(one)]


def _rank(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("RANK")
    return None


def check(kept: Kept, quiet: Finished, doubles: int) -> None:
    """Each row is there once, equal to that of one process; nothing finished was computed twice."""
    [made] = kept.outputs.glob("artifacts/evaluate.predict/*/sample.generation.jsonl")
    [alone] = quiet.outputs.glob("artifacts/evaluate.predict/*/sample.generation.jsonl")
    assert made.read_bytes() == alone.read_bytes()
    ids = [json.loads(line)["id"] for line in alone.read_text().splitlines()]
    answered, scored = kept.counts("generation"), kept.counts("perplexity")
    assert set(answered) == set(ids) and set(answered.values()) == {1}
    assert set(scored) == set(ids) and scored.total() - len(ids) <= doubles
    sums = [file.with_name("sample.perplexity.jsonl").read_text() for file in (made, alone)]
    for one, other in zip(*(map(json.loads, text.splitlines()) for text in sums), strict=True):
        assert one["id"] == other["id"] and one["nll"] == pytest.approx(other["nll"], rel=1e-6)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One process, undisturbed."""
    done = run_pipeline(tmp_path_factory.mktemp("quiet"), *LONG)
    assert done.code == 0, done.out + done.err
    return done


@pytest.mark.slow
def test_ranks_are_killed_and_no_row_is_lost_or_made_twice(tmp_path: Path, quiet: Finished) -> None:
    kept, chance, kills = Kept(tmp_path / "outputs", tmp_path / "kept"), random.Random(SEED), 0
    (tmp_path / "outputs").mkdir()
    for processes in (2, 3, 2, 1):  # the number of ranks may change between two starts
        launch = ("launch=cpu_ranks", f"launch.processes={processes}") if processes > 1 else ()
        victims = ranks_of if processes > 1 else workers_of
        code = run_and_kill(kept, launch, victims, chance)
        assert code in (4, None), (tmp_path / "tries.log").read_text()
        kills += code is not None
    assert kills >= 3
    assert undisturbed(kept, RANKS) == 0, (tmp_path / "tries.log").read_text()
    check(kept, quiet, doubles=8 * kills)


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    return [one for one in parent.children() if "pipeline.worker" in _title(one)]


def ray_workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """Those that compute: Ray calls a worker by its function. (The raylet above them is the node itself.)"""
    return [one for one in parent.children(recursive=True) if _title(one).startswith("ray::run_there")]


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@needs_ray
@pytest.mark.slow
def test_workers_of_ray_are_killed_and_no_row_is_lost_or_made_twice(tmp_path: Path, quiet: Finished) -> None:
    kept, chance = Kept(tmp_path / "outputs", tmp_path / "kept"), random.Random(SEED)
    (tmp_path / "outputs").mkdir()
    over_ray = ("stages.evaluate.spread={kind: ray, workers: 2}",)
    for victims in (ray_workers_of, workers_of, ray_workers_of):
        code = run_and_kill(kept, over_ray, victims, chance)  # a killed worker is replaced, and the run goes on
        assert code in ((0, None) if victims is ray_workers_of else (4, None)), (tmp_path / "tries.log").read_text()
    assert undisturbed(kept, over_ray) == 0, (tmp_path / "tries.log").read_text()
    check(kept, quiet, doubles=8 * 3)


@pytest.mark.slow
def test_the_client_of_a_server_is_killed_and_every_prompt_is_asked_once(
    tmp_path: Path,
    stub: Stub,  # noqa: F811
) -> None:
    """Beyond what was finished, a new start asks only what was under way: as many prompts as `concurrency`."""
    stub.default = lambda body: Answer(
        body={"choices": [{"text": body["prompt"][:9], "finish_reason": "stop"}]}, delay=chance.uniform(0.1, 0.5)
    )
    kept, chance, kills, concurrency = Kept(tmp_path / "outputs", tmp_path / "kept"), random.Random(SEED), 0, 3
    (tmp_path / "outputs").mkdir()
    place = f"{{base_url: '{stub.url}', served: {{base: b}}, probes: 0, concurrency: {concurrency}}}"
    served = ("stages.evaluate.generation.engine=server", f"stages.evaluate.generation.server={place}")
    for _ in range(4):
        code = run_and_kill(kept, (*served, "stages.evaluate.perplexity=null"), workers_of, chance)
        kills += code is not None
    assert kills >= 3, (tmp_path / "tries.log").read_text()
    assert undisturbed(kept, (*served, "stages.evaluate.perplexity=null")) == 0, (tmp_path / "tries.log").read_text()
    [made] = kept.outputs.glob("artifacts/evaluate.predict/*/sample.generation.jsonl")
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    assert all(row["output"] == row["prompt"][:9] for row in rows) and len({row["id"] for row in rows}) == len(rows)
    assert set(kept.counts("generation").values()) == {1} and kept.counts("generation").total() == len(rows)
    asked, wanted = Counter(one["prompt"] for one in stub.requests), Counter(row["prompt"] for row in rows)
    assert asked.keys() == wanted.keys() and (asked - wanted).total() <= concurrency * kills and not wanted - asked
