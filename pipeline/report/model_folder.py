"""`runs/<run_id>/model/`: the tuned model as the Hub knows it, its card first; and its upload, when it is asked for."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipeline.errors import StageFailed, printable
from pipeline.report.card import card, trained_stage
from pipeline.report.load import parse
from pipeline.report.render import write_whole

MODEL = "model"
CARD = "README.md"
_WITH_IT = ("report.html", "report.md", "report.json")


def write_model_folder(report: dict[str, Any], folder: Path) -> Path | None:
    """Links to the files of the last trained model, with a card; None where the run trained nothing.

    Weights stay in their artifact: the folder costs nothing, and `from_pretrained` reads it as it is.
    """
    parsed = parse(report)
    stage = trained_stage(parsed)
    weights = _weights(folder, stage.artifact if stage else None)
    if weights is None:
        return None
    made = folder / MODEL
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for file in sorted(weights.iterdir()):
        if file.name != CARD:
            (made / file.name).symlink_to(os.path.relpath(file.resolve(), made.resolve()))
    write_whole(made / CARD, card(parsed, is_adapter=weights.name == "adapter"))
    return made


def _weights(folder: Path, artifact: str | None) -> Path | None:
    """The trained part inside an artifact: an adapter, or a whole model."""
    if not artifact:
        return None
    root = (folder.resolve().parent.parent / artifact).resolve()
    return next((root / name for name in ("adapter", "model") if (root / name).is_dir()), None)


def push(folder: Path, repository: str) -> str:
    """Upload model, card and report to the Hub and return the page's address; the run itself is safe whatever happens.

    Raises:
        StageFailed: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not (folder / MODEL).is_dir():
        raise StageFailed(f"push_to_hub: {folder.name} trained no model, so there is nothing to upload")
    with tempfile.TemporaryDirectory(prefix="provetune-") as place:
        staged = Path(place)
        for file in (folder / MODEL).iterdir():
            (staged / file.name).symlink_to(file.resolve())
        for name in _WITH_IT:
            (staged / name).symlink_to((folder / name).resolve())
        try:
            api = HfApi()
            made = api.create_repo(repository, repo_type="model", exist_ok=True)
            message = f"Provetune run {folder.name}"
            api.upload_folder(repo_id=made.repo_id, folder_path=staged, commit_message=message)
        except HfHubHTTPError as error:
            reason = getattr(error, "server_message", None) or str(error).splitlines()[0]
            raise StageFailed(f"push_to_hub: {repository}: the Hub refused ({printable(reason)}); {_NEXT}") from None
        except Exception as error:  # no connection: each HTTP library beneath the Hub's client has its own classes
            what = f"push_to_hub: {repository}: the upload failed ({type(error).__name__})"
            raise StageFailed(f"{what}; {_NEXT}") from None
    return str(made)


_NEXT = "the run is finished and kept: check HF_TOKEN and the network, and start the same command again"
