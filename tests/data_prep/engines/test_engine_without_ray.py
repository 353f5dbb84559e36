"""Without the extra `ray` the engine says what to install, and the local one does not need it."""

import subprocess
import sys
from pathlib import Path

import pytest
from shard_work import shards, write

from data_prep.engines import ray_engine
from data_prep.engines.config import RayEngine
from data_prep.engines.engine import run_tasks
from data_prep.errors import DataError


def test_ray_is_an_extra(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        run_tasks(RayEngine(), write, shards(2), tmp_path, version="1", title="t")
    told = 'engine.kind=ray: Ray is not installed; pip install "provetune[ray]", or use engine.kind=local'
    assert str(caught.value) == told


def test_a_finished_map_needs_no_cluster(tmp_path: Path) -> None:
    from data_prep.engines.config import LocalEngine

    run_tasks(LocalEngine(workers=1), write, shards(2), tmp_path, version="1", title="t")
    pytest.importorskip("ray")
    nobody = RayEngine(address="127.0.0.1:1")
    assert run_tasks(nobody, write, shards(2), tmp_path, version="1", title="t").reused == 2


def test_the_engine_imports_nothing_heavy() -> None:
    code = "import sys, data_prep.engines.engine as e; print({'ray', 'pyarrow', 'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
