"""What the doctor finds of devices and clusters: GPUs, what torch can do with them, Slurm, Ray."""

import importlib.metadata
import importlib.util
import json
import multiprocessing
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.provenance import gpus

State = Literal["ok", "absent", "warning", "fault"]
PROBE_SECONDS = 120
"""How long a child that imports torch may take."""


@dataclass(frozen=True)
class Finding:
    """The answer of one check."""

    name: str
    state: State
    found: str
    advice: str = ""


def check_gpus(_: Path) -> Finding:
    """GPUs by the driver, and whether torch can use them."""
    cards = gpus()
    asked = _torch_says()
    if not cards:
        if Path("/proc/driver/nvidia/version").exists():
            return Finding("GPUs", "fault", "a driver is loaded, but nvidia-smi shows none", "reinstall the driver")
        return Finding("GPUs", "absent", "none; training runs on the processor")
    told = f"{len(cards)} × {cards[0].get('name')}, driver {cards[0].get('driver')}"
    if asked is None:
        return Finding("GPUs", "fault", f"{told}; torch cannot be imported", "pip install torch==2.13.0")
    if asked["cuda"] is None:
        advice = "pip install a torch built for CUDA (the index of pytorch.org names them)"
        return Finding("GPUs", "fault", f"{told}; torch {asked['version']} is built without CUDA", advice)
    if asked["count"] < len(cards):
        advice = "update the driver, or pip install a torch for an older CUDA; look at CUDA_VISIBLE_DEVICES"
        told = f"{told}; torch {asked['version']} (CUDA {asked['cuda']}) sees {asked['count']}"
        return Finding("GPUs", "fault", told, advice)
    return Finding("GPUs", "ok", f"{told}; torch {asked['version']} (CUDA {asked['cuda']}) sees them")


def check_collectives(_: Path) -> Finding:
    """gloo between two processes on loopback; NCCL where there are GPUs."""
    asked = _torch_says()
    if asked is None:
        return Finding("gloo, NCCL", "fault", "torch cannot be imported", "pip install torch==2.13.0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, datetime, torch, torch.distributed as d\n"
        "rank, port = int(sys.argv[1]), sys.argv[2]\n"
        "d.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2,\n"
        "                     timeout=datetime.timedelta(seconds=60))\n"
        "one = torch.ones(1); d.all_reduce(one); assert one.item() == 2; d.destroy_process_group()"
    )
    ranks = [
        subprocess.Popen([sys.executable, "-c", code, str(rank), str(port)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        ends = [rank.communicate(timeout=PROBE_SECONDS)[1] for rank in ranks]
    except subprocess.TimeoutExpired:
        ends = ["no answer"]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    if any(rank.returncode for rank in ranks):
        last = next((end.strip().splitlines()[-1] for end in ends if end.strip()), "it died")
        advice = "let processes talk on loopback; set GLOO_SOCKET_IFNAME to the right interface"
        return Finding("gloo, NCCL", "fault", f"two processes cannot talk: {last}", advice)
    nccl = "NCCL is there" if asked["nccl"] else "no NCCL in this torch"
    if gpus() and not asked["nccl"]:
        return Finding("gloo, NCCL", "fault", f"gloo works; {nccl}", "pip install a torch built for CUDA")
    return Finding("gloo, NCCL", "ok", f"gloo works; {nccl}")


def _torch_says() -> dict[str, Any] | None:
    """What torch knows, asked in a child: this process stays without it."""
    code = (
        "import json, torch; d = torch.distributed\n"
        "print(json.dumps({'version': torch.__version__, 'cuda': torch.version.cuda,\n"
        "  'count': torch.cuda.device_count() if torch.cuda.is_available() else 0, 'nccl': d.is_nccl_available()}))"
    )
    try:
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
        return json.loads(answer.stdout.strip().splitlines()[-1]) if answer.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def check_slurm(_: Path) -> Finding:
    """Whether `hydra/launcher=slurm` would find a cluster."""
    if shutil.which("sbatch") is None:
        return Finding("Slurm", "absent", "no sbatch; hydra/launcher=slurm needs a login node")
    if importlib.util.find_spec("submitit") is None:
        return Finding("Slurm", "warning", "sbatch is there, submitit is not", "pip install 'provetune[slurm]'")
    try:
        answer = subprocess.run(
            ["sinfo", "-h", "-o", "%R %a %D"], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("Slurm", "fault", "the controller does not answer", "ask who runs the cluster; try `sinfo`")
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding("Slurm", "warning", f"no cluster answers: {last}", "set SLURM_CONF, or ask who runs the cluster")
    return Finding("Slurm", "ok", "; ".join(f"partition {line}" for line in answer.stdout.splitlines()))


def check_ray(_: Path) -> Finding:
    """Whether `hydra/launcher=ray` and the filter's `engine=ray` can start."""
    if importlib.util.find_spec("ray") is None:
        return Finding("Ray", "absent", "not installed; pip install 'provetune[ray]' for hydra/launcher=ray")
    return Finding("Ray", "ok", f"ray {importlib.metadata.version('ray')}, {multiprocessing.cpu_count()} cores here")
