"""What a classifier's `model` names, and what exactly is there: pinned by content, or by the Hub's commit."""

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from data_prep.curation.classifiers.linear import CARD, WEIGHTS
from data_prep.errors import DataError
from data_prep.sources import HUB_ID

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")
"""What of a transformers folder counts: weights, configuration, tokenizer."""

Kind = Literal["linear", "folder", "hub"]


def kind_of(model: str) -> Kind:
    """A folder with a card is a linear classifier, one with config.json a transformers one, else it is a Hub id."""
    path = Path(model).expanduser()
    folder = path.parent if path.name in (CARD, WEIGHTS) else path
    if (folder / CARD).is_file():
        return "linear"
    if (folder / "config.json").is_file():
        return "folder"
    if path.exists():
        raise DataError(f"{model}: neither {CARD} nor config.json is in it; give a folder that holds a classifier")
    if HUB_ID.fullmatch(model) is None:
        raise DataError(f"{model}: does not exist, and is no Hub id (org/name); check the path")
    return "hub"


def linear_folder(model: str) -> Path:
    """The folder of a linear classifier that is named by itself, its card or its weights."""
    path = Path(model).expanduser()
    return path.parent if path.name in (CARD, WEIGHTS) else path


def model_identity(model: str, revision: str | None) -> dict[str, Any]:
    """What decides about scores: sha256 of each file, or the Hub id and commit. Other weights are another identity.

    Raises:
        DataError: nothing is there, or neither the Hub nor the local cache knows the commit.
    """
    kind = kind_of(model)
    if kind == "hub":
        return {"hub": model, "revision": hub_commit(model, revision)}
    if kind == "linear":
        folder = linear_folder(model)
        return {"files": [[name, _sha256(folder / name)] for name in (CARD, WEIGHTS)]}
    folder = Path(model).expanduser()
    files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})
    return {"files": [[path.name, _sha256(path)] for path in files]}


def hub_commit(repository: str, revision: str | None) -> str:
    """The commit of a branch or tag: from the local cache when offline, else asked of the Hub."""
    from huggingface_hub import HfApi, constants

    branch = revision or "main"
    if re.fullmatch(r"[0-9a-f]{40}", branch):
        return branch
    cached = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "refs" / branch
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            return str(HfApi().model_info(repository, revision=branch, timeout=10).sha)
        except Exception as error:  # no connection, gated, not found: each layer beneath has its own classes
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if cached.is_file():
        return cached.read_text(encoding="utf-8").strip()
    raise DataError(
        f"{repository}@{branch}: not in the local Hub cache, and cannot be asked for ({reason}); give a folder"
    )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); copy the whole folder") from error
