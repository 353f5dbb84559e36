"""Ranks that divide sequences: what torch cannot do on a CPU, and all else, with a plain attention in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import StageFailed
from pipeline.parallel_config import GROUPS
from pipeline.training.arguments import training_arguments
from pipeline.training.config import TrainConfig
from pipeline.training.parallel import parts_of_a_row
from tests.engine.test_tensor_parallel import Trainings
from tests.engine.tiny_training import KINDS, recipe

TORCH = """
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.experimental import context_parallel
from torch.nn import functional
dist.init_process_group("gloo")
query = torch.randn(1, 2, 16, 8)
with context_parallel(init_device_mesh("cpu", (2,)), buffers=[query], buffer_seq_dims=[2]):
    functional.scaled_dot_product_attention(query, query, query, is_causal=True)
"""


def ranks(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    told = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=told, timeout=600, check=False)


@pytest.mark.end_to_end
def test_torch_still_has_no_context_parallel_attention_on_cpus(tmp_path: Path) -> None:
    """The words of docs/scale.md. When this fails, launch=cpu_ranks can be let through."""
    (tmp_path / "script.py").write_text(TORCH, encoding="utf-8")
    done = ranks(str(tmp_path / "script.py"))
    refusal = "aten._scaled_dot_product_flash_attention_for_cpu.default does not have a sharding strategy registered"
    assert done.returncode and refusal in done.stderr, done.stderr[-2000:]
    assert refusal in (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8").replace("\n", " ")


@pytest.mark.end_to_end
def test_on_a_cpu_it_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GROUPS[1], "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = recipe(KINDS["sft lora"])
    asked.pop("neftune_alpha")
    with pytest.raises(
        StageFailed, match="launch.context_parallel 2: needs GPUs, torch has no such attention for CPUs"
    ):
        training_arguments(TrainConfig.model_validate(asked), 1, tmp_path)
    assert parts_of_a_row() == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft full", "sft lora"])
def test_two_ranks_that_divide_each_sequence_train_as_one(tmp_path: Path, kind: str) -> None:
    """Rows, padding, the sum of losses, accumulation, validation and preflight; attention and shards are stand-ins."""
    found = Trainings(tmp_path, [kind], {"max_steps": 12, "micro_batch_size": 4, "validate_every": 6})
    found.alone()
    work = found.work(kind, "divided")
    (tmp_path / "work.json").write_text(json.dumps([work]), encoding="utf-8")
    sizes = {"PARALLELISM_CONFIG_CP_SIZE": "2", "ACCELERATE_USE_PARALLELISM_CONFIG": "true", GROUPS[1]: "2"}
    done = ranks("-m", "tests.engine.ring_ranks", str(tmp_path / "work.json"), **sizes)
    assert done.returncode == 0, done.stderr[-6000:]
    assert found.losses(kind, "divided") == pytest.approx(found.losses(kind, "alone"), abs=1e-5)
    validated = [found.losses(kind, out, "validation.jsonl") for out in ("divided", "alone")]
    assert validated[0] == pytest.approx(validated[1], abs=1e-5) and len(validated[0]) == 2
