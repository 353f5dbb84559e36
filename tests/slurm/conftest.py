"""One cluster for all tests of this folder."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster of two nodes on this machine; skipped where none can be started."""
    reason = cluster.missing()
    if reason is not None:
        pytest.skip(f"no Slurm cluster: {reason}")
    folder: Path = tmp_path_factory.mktemp("slurm")
    try:
        yield cluster.start(folder)
    finally:
        cluster.stop(folder)
        assert not list(folder.glob("*.started"))
        time.sleep(0.2)
