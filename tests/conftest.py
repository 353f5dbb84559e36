"""Shared by all tests: offline, quiet, one thread; whole runs of the smoke experiment in child processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; children would inherit deaf ears
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Finished:
    """A `python -m pipeline` that ended."""

    code: int
    out: str
    err: str
    outputs: Path
    run: str = "latest"

    @property
    def report(self) -> dict:
        """report.json of the run; of the newest one, where none is named."""
        return json.loads((self.outputs / "runs" / self.run / "report.json").read_text(encoding="utf-8"))

    def artifact(self, name: str) -> Path:
        """The artifact folder of a node of the run."""
        stage = next(stage for stage in self.report["stages"] if stage["name"] == name)
        return self.outputs / stage["artifact"]


Pipeline = Callable[..., Finished]


def run_pipeline(outputs: Path, *overrides: str, cwd: Path | None = None, module: str = "pipeline") -> Finished:
    """`python -m pipeline … outputs=…` to its end."""
    command = [sys.executable, "-m", module, *overrides, f"outputs={outputs}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=cwd, check=False)
    return Finished(done.returncode, done.stdout, done.stderr, outputs)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What processes leave in the temporary folder when they are killed goes with pytest's own folders."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"], tempfile.tempdir = str(tmp_path_factory.mktemp("tmp")), None
    yield
    os.environ.pop("TMPDIR")
    if before is not None:
        os.environ["TMPDIR"] = before
    tempfile.tempdir = None


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """One finished run of the smoke experiment; tests that would add artifacts take `copied`."""
    finished = run_pipeline(tmp_path_factory.mktemp("smoke"), "+experiment=smoke")
    assert finished.code == 0, finished.out + finished.err
    made = sorted((finished.outputs / "artifacts").glob("*/*"))
    yield replace(finished, run=(finished.outputs / "runs" / "latest").resolve().name)
    assert sorted((finished.outputs / "artifacts").glob("*/*")) == made, "a test added artifacts that others then find"


@pytest.fixture
def copied(smoke: Finished, tmp_path: Path) -> Path:
    """A copy of the smoke run's outputs, to write into."""
    return Path(shutil.copytree(smoke.outputs, tmp_path / "copied outputs", symlinks=True))
