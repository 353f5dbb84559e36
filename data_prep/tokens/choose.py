"""Which chat template a tokenizer is trained with: its own, TRL's training variant of it, a shipped one, or a file."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import DataError
from data_prep.tokens.config import CHAT_TEMPLATES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHOSEN = "chat_template.jinja"
"""File in the folder of token arrays: the template that a trained model is saved with."""

ALLOWED = f"own, trl, {', '.join(CHAT_TEMPLATES)} or the path of a .jinja file"
_FOLDER = Path(__file__).parent / "chat_templates"


def choose_chat_template(tokenizer: "PreTrainedTokenizerBase", chosen: str) -> None:
    """Set the tokenizer's chat template to the chosen one.

    DataError for a name that is neither known nor a file, for `trl` where TRL knows no variant, and for a template
    whose control tokens the tokenizer lacks.
    """
    if isinstance(tokenizer.chat_template, dict):  # named variants, of which `default` is the one for conversations
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if chosen == "trl":
        tokenizer.chat_template = training_variant(str(tokenizer.chat_template or ""))
    elif chosen in CHAT_TEMPLATES:
        _refuse_missing_tokens(tokenizer, chosen)
        tokenizer.chat_template = shipped(chosen)
    elif chosen != "own":
        tokenizer.chat_template = template_of_file(Path(chosen))


def shipped(name: str) -> str:
    """The text of a shipped template."""
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def template_of_file(path: Path) -> str:
    """The text of a user's template; DataError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            f"stages.sft.chat_template: {path} is no readable text ({type(error).__name__}); allowed are {ALLOWED}"
        ) from None


def training_variant(template: str) -> str:
    """TRL's training variant of exactly this template: every answer reads the same whatever follows, and is marked.

    DataError when TRL has none.
    """
    folder = _folder_of_trl()
    for file in sorted(folder.glob("*_training.jinja")):
        variant = file.read_text(encoding="utf-8")
        original = file.with_name(file.name.replace("_training", ""))
        if template in (variant, original.read_text(encoding="utf-8") if original.is_file() else variant):
            return variant
    known = ", ".join(sorted(file.name.removesuffix("_training.jinja") for file in folder.glob("*_training.jinja")))
    raise DataError(
        "stages.sft.chat_template=trl: TRL has no training variant of this tokenizer's chat template; it has those of "
        f"{known}; set chat_template=own or the path of a template"
    )


def save_chosen(tokenizer: "PreTrainedTokenizerBase", chosen: str, folder: Path) -> None:
    """Leave a template from outside beside the token arrays; TRL's variant is for training only and never served."""
    (folder / CHOSEN).unlink(missing_ok=True)
    if chosen not in ("own", "trl"):
        (folder / CHOSEN).write_text(str(tokenizer.chat_template), encoding="utf-8")


def take_chosen(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Give a tokenizer the template that its model was or will be trained with, if the folder holds one."""
    if (folder / CHOSEN).is_file():
        tokenizer.chat_template = (folder / CHOSEN).read_text(encoding="utf-8")


def fingerprint(chosen: str) -> str:
    """What the choice stands for, wherever the file lies: the name, or the content of the file."""
    if chosen in ("own", "trl", *CHAT_TEMPLATES):
        return chosen
    return "sha256:" + hashlib.sha256(template_of_file(Path(chosen)).encode()).hexdigest()


def _folder_of_trl() -> Path:
    found = find_spec("trl")
    if found is None or found.origin is None:
        raise DataError("stages.sft.chat_template=trl: the package trl is not installed; install it or choose another")
    return Path(found.origin).parent / "chat_templates"


def _refuse_missing_tokens(tokenizer: "PreTrainedTokenizerBase", chosen: str) -> None:
    absent = _absent(tokenizer, chosen)
    if absent:
        fitting = [name for name in CHAT_TEMPLATES if not _absent(tokenizer, name)]
        others = f"choose {' or '.join(fitting)}, whose tokens it has" if fitting else "give it an end token"
        raise DataError(
            f"stages.sft.chat_template={chosen}: the tokenizer has no {', '.join(absent)}; {others}, or add the tokens "
            "with a stage of kind tokenizer"
        )


def _absent(tokenizer: "PreTrainedTokenizerBase", name: str) -> list[str]:
    known, text = tokenizer.get_vocab(), shipped(name)
    absent = [token for token in CHAT_TEMPLATES[name] if token not in known]
    absent += ["end token (eos)"] if "eos_token" in text and not tokenizer.eos_token else []
    return absent + (["beginning token (bos)"] if "bos_token" in text and not tokenizer.bos_token else [])
