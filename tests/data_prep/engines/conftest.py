"""Lets these tests, and the workers that they start, import `shard_work`; a Ray cluster of two nodes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from data_prep.engines.config import LocalEngine, RayEngine
from data_prep.engines.engine import run_tasks

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two nodes of one processor each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def engine(cluster: Any) -> RayEngine:
    return RayEngine(address=cluster.address)


@pytest.fixture
def quiet(tmp_path: Path) -> dict[str, bytes]:
    """What eight undisturbed tasks leave in one process."""
    from shard_work import bytes_of, shards, write

    run_tasks(LocalEngine(workers=1), write, shards(8), tmp_path / "quiet", version="1", title="t")
    return bytes_of(tmp_path / "quiet")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    own = [child for child in psutil.Process().children() if "local_worker" in " ".join(child.cmdline())]
    assert own == []
