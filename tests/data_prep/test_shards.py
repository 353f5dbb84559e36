"""Curation over shards: the same bytes whatever cuts and workers, resume at the shard, other thresholds for free."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from data_prep.curation import job as jobs
from data_prep.curation.config import CurationSteps
from data_prep.curation.decide import decide
from data_prep.curation.measure import measure
from data_prep.engines.config import Engine, LocalEngine, RayEngine
from data_prep.rows import write_rows

KEY = "an example of a key that is long enough"
STEPS = {
    "normalise": {},
    "exact_dedup": {"on": "prompt"},
    "repeated_parts": {"min_documents": 20, "rows": "all", "min_characters": 10},
    "near_dedup": {"words": 3},
    "toxicity": {},
    "decontamination": {},
    "pii": {},
}
WORDS = "river council bridge budget winter train market school doctor garden letter island minister music".split()  # noqa: SIM905


def text(draw: random.Random, words: int = 40) -> str:
    return " ".join(draw.choice(WORDS) + draw.choice(["", "s", ",", "ed", " and"]) for _ in range(words))


def rows(count: int = 300) -> list[dict]:
    """Texts, of which some repeat others, nearly repeat others, hold an address or the evaluation's items."""
    draw, made = random.Random(7), []
    for number in range(count):
        words = text(draw)
        if number % 10 == 3:
            words = made[-1]["prompt"]
        if number % 10 == 5:
            words = made[-1]["prompt"] + " again today"
        if number % 25 == 7:
            words += f" write to anna.{number}@mail-of-{number}.net"
        if number % 50 == 9:
            words += " " + evaluation()[number // 50]["prompt"]
        completion = f"An answer of some words, number {number}.\n\nSubscribe to our weekly newsletter now!"
        made.append({"id": f"{number:05}-00", "source": "d", "prompt": words, "completion": completion})
    return made


def evaluation() -> list[dict]:
    draw = random.Random(11)
    made = [text(draw, 25) for _ in range(8)]
    return [{"id": f"e{n}", "source": "e", "prompt": each, "completion": "yes"} for n, each in enumerate(made)]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVETUNE_PSEUDONYM_KEY", KEY)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("rows")
    parts = rows()
    write_rows(place / "d", "train", [row for row in parts if int(row["id"][:5]) % 9])
    write_rows(place / "d", "test", [row for row in parts if int(row["id"][:5]) % 9 == 0])
    write_rows(place / "e", "test", evaluation())
    return {"d": place / "d", "e": place / "e"}


def curated(
    folders: dict[str, Path], out: Path, workers: int = 1, engine: Engine | None = None, **changed: object
) -> dict[str, bytes]:
    """Every file that a curation leaves."""
    steps = CurationSteps.model_validate({**STEPS, **changed})
    engine = engine or LocalEngine(workers=workers)
    job = measure({"d": folders["d"]}, steps, out / "job", engine, {"e": folders["e"]})
    decide(job, steps, out / "out", engine)
    return files(out / "out")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.end_to_end
def test_any_number_of_workers_gives_the_same_bytes(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SHARD_BYTES", 20_000)
    one, two = curated(folders, tmp_path / "one"), curated(folders, tmp_path / "two", workers=2)
    assert len(list((tmp_path / "one/job/shards").iterdir())) > 3
    assert one == two
    assert {"d/train.jsonl", "d/test.jsonl", "ledger.parquet", "funnel.json", "what_if.json"} <= set(one)
    funnel = {entry["step"]: entry for entry in json.loads(one["funnel.json"])["d"]}
    assert all(funnel[step]["dropped"] for step in ("exact_dedup", "near_dedup", "decontamination")), funnel
    assert funnel["repeated_parts"]["changed"] == 300 and funnel["pii"]["changed"] > 3


@pytest.mark.slow
def test_ray_gives_the_same_bytes(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also pseudonyms, whose key is no part of a cluster's environment."""
    pytest.importorskip("ray")
    monkeypatch.setattr(jobs, "SHARD_BYTES", 20_000)
    ray = curated(folders, tmp_path / "ray", engine=RayEngine(workers=2))
    assert ray == curated(folders, tmp_path / "local")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_how_rows_are_cut_changes_no_decision(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curated(folders, tmp_path / "whole")
    monkeypatch.setattr(jobs, "SHARD_BYTES", 5_000)
    cut = curated(folders, tmp_path / "cut")
    assert {name: whole[name] for name in whole if name != "ledger.parquet"} == {
        name: cut[name] for name in cut if name != "ledger.parquet"
    }
    ledgers = [parquet.read_table(tmp_path / each / "out/ledger.parquet").to_pylist() for each in ("whole", "cut")]
    assert ledgers[0] == ledgers[1]


def test_every_removed_row_names_a_kept_one(folders: dict[str, Path], tmp_path: Path) -> None:
    curated(folders, tmp_path)
    ledger = {row["id"]: row for row in parquet.read_table(tmp_path / "out/ledger.parquet").to_pylist()}
    repeats = [row for row in ledger.values() if row["duplicate_of"]]
    assert len(repeats) > 40
    for row in repeats:
        witness = ledger[row["duplicate_of"]]
        assert witness["duplicate_of"] is None and row["duplicate_similarity"] >= 0.7
        # A row that passes all else is kept before one that does not.
        others = [reason for reason in row["reasons"] if "_dedup" not in reason]
        assert others or witness["kept"] or witness["split"] == "test"


def test_other_thresholds_give_what_a_fresh_run_gives(folders: dict[str, Path], tmp_path: Path) -> None:
    """`rethreshold`, and a changed limit in the pipeline: the measured job is used again."""
    first = CurationSteps.model_validate(STEPS)
    job = measure({"d": folders["d"]}, first, tmp_path / "job", LocalEngine(workers=1), {"e": folders["e"]})
    changed = {
        "near_dedup": {"words": 3, "threshold": 0.95, "keep": "first", "search_from": 0.7},
        "length": {"max_prompt_words": 52},
        "decontamination": {"max_share": 0.95, "max_document_share": 0.5},
        "pii": {"action": "drop"},
        "toxicity": {"max_score": 0.2},
    }
    decide(job, CurationSteps.model_validate({**STEPS, **changed}), tmp_path / "again", LocalEngine(workers=1))
    fresh = curated(folders, tmp_path / "fresh", **changed)
    assert files(tmp_path / "again") == fresh
    decide(job, first, tmp_path / "before", LocalEngine(workers=1))
    assert files(tmp_path / "before") != fresh


CHILD = """
import sys
from pathlib import Path
from tests.data_prep import test_shards as here
from data_prep.curation import job as jobs
jobs.SHARD_BYTES = 5_000
root = Path(sys.argv[1])
here.curated({"d": root / "d", "e": root / "e"}, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_curation_goes_on_at_the_shard(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again at random moments; finished shards keep their inode, so nobody made them again."""
    monkeypatch.setattr(jobs, "SHARD_BYTES", 5_000)
    expected = curated(folders, tmp_path / "undisturbed")
    command = [sys.executable, "-c", CHILD, str(folders["d"].parent), str(tmp_path / "killed")]
    shards, draw, kept = tmp_path / "killed/job/shards", random.Random(3), 0
    for _ in range(6):
        seen = {path.name: path.stat().st_ino for path in shards.glob("[0-9]*")} if shards.exists() else {}
        child = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=dict(os.environ))
        started = time.monotonic()
        while child.poll() is None and len(list(shards.glob("[0-9]*"))) <= len(seen) + draw.randrange(6):
            assert time.monotonic() - started < 120
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        kept += len(seen)
        assert {name: (shards / name).stat().st_ino for name in seen} == seen
    assert kept > 5
    subprocess.run(command, cwd=Path(__file__).parents[2], env=dict(os.environ), check=True, timeout=240)
    assert files(tmp_path / "killed/out") == expected


MEMORY = """
import sys
from pathlib import Path
from data_prep.curation.config import CurationSteps
from data_prep.curation.curate import curate
quality = {"rows": "all", "c4": None, "fineweb": None, "gopher_quality": None}  # random words are no sentences
off = {"exact_dedup": None, "normalise": {}, "quality": quality, "pii": {"action": "mask"}, "toxicity": {}}
curate({"d": Path(sys.argv[1])}, CurationSteps.model_validate(off), Path(sys.argv[2]))
# Not ru_maxrss: a child inherits that of the process that started it.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_row_wise_steps_stay_flat_in_memory(tmp_path: Path) -> None:
    """Ten times the rows, and the peak grows by less than a tenth: shards of 8 MB are all that is held."""
    peaks = []
    for times in (1, 10):
        folder = tmp_path / f"in{times}"
        draw = random.Random(times)
        made = [
            {"id": f"{n:07}-00", "source": "d", "prompt": text(draw, 400), "completion": "Good."}
            for n in range(10_000 * times)
        ]
        write_rows(folder, "train", made)
        command = [sys.executable, "-c", MEMORY, str(folder), str(tmp_path / f"out{times}")]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=580
        )
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.1 * peaks[0], peaks
