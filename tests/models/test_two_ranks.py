"""Models divided among two ranks: by heads and widths (tensor parallelism), and by weights (FSDP2)."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pipeline.models.parallel import tensor_parallel_plan
from tests.models.tiny import KINDS, config

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Differences from the whole model, by kind and way of dividing it."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.models.two_ranks", str(folder)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "match nothing" not in done.stderr
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("way", ["tensor", "fsdp2"])
@pytest.mark.parametrize("kind", [*KINDS, "ungated", "ungated-experts", "latent-experts", "tied"])
def test_two_ranks_compute_the_same_logits_and_gradients(found: dict[str, Any], kind: str, way: str) -> None:
    assert found[kind][way]["logits"] < 1e-5
    assert found[kind][way]["gradients"] < 1e-4
    assert way == "fsdp2" or found[kind][way]["split"] > 0


@pytest.mark.parametrize("kind", ["multi_query", "alibi", "t5"])
def test_attention_stays_whole_where_heads_share_what_cannot_be_divided(kind: str) -> None:
    plan = tensor_parallel_plan(config(**KINDS[kind]))
    assert plan and not [module for module in plan if "self_attn" in module]
