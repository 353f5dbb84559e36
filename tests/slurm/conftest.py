"""One cluster for all tests of this folder."""

import time
from collections.abc import Iterator

import pytest

from tests.slurm import cluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster of two nodes on this machine; skipped where none can be started."""
    reason = cluster.missing()
    if reason is not None:
        pytest.skip(f"no Slurm cluster: {reason}")
    with cluster.running(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment
        time.sleep(0.2)
