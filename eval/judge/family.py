"""Which family a model is of: a judge prefers answers of its own kind, so it must not judge them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import DataError

_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_OLD_NAMES = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}
# Words that names of one family share. A name with none of them is compared by its first word.
_FAMILIES = {
    "gpt": ("chatgpt", "openai", "o1", "o3", "o4"),
    "claude": ("anthropic",),
    "gemini": ("gemma", "palm", "recurrentgemma"),
    "llama": ("vicuna", "alpaca", "tulu", "codellama", "tinyllama", "wizardlm"),
    "mistral": ("mixtral", "ministral", "magistral", "codestral", "zephyr", "devstral"),
    "qwen": ("qwq", "qvq", "tongyi"),
    "smollm": ("smolvlm",),
    "phi": (),
    "deepseek": (),
    "falcon": (),
    "olmo": (),
    "granite": (),
    "command": ("cohere", "aya"),
    "pythia": ("gptneox", "neox"),
    "bloom": ("bloomz",),
    "yi": (),
    "glm": ("chatglm",),
    "kimi": ("moonshot",),
    "nemotron": (),
    "exaone": (),
    "internlm": (),
    "minimax": (),
    "opt": (),
    "grok": (),
}
# First words of names that say nothing: the folder of any model may be called so.
_NAMELESS = frozenset(
    ("model", "models", "checkpoint", "checkpoints", "output", "outputs", "weights", "base", "tuned", "sft", "dpo")
    + ("lora", "adapter", "merged", "final", "latest", "tmp", "temp", "data", "the", "test", "tiny", "small", "large")
)


@dataclass(frozen=True)
class ModelIdentity:
    """What tells models apart: the names it goes by, and the shape of its network where its configuration is known."""

    name: str
    names: tuple[str, ...] = ()
    shape: tuple[Any, ...] | None = None

    @property
    def families(self) -> frozenset[str]:
        """Every family that one of its names speaks of."""
        return frozenset().union(*(_families(name) for name in (self.name, *self.names)))


def identify(model: str | Path, *other_names: str) -> ModelIdentity:
    """A model by its folder (its configuration, and the base that it or an adapter names) or by its name alone."""
    folder = Path(model)
    config = _json(folder / "config.json")
    adapter = _json(folder / "adapter_config.json")
    named = [config.get("_name_or_path"), adapter.get("base_model_name_or_path"), *other_names]
    names = tuple(str(name) for name in named if name)
    return ModelIdentity(Path(model).name if config or adapter else str(model), names, _shape(config))


def kinship(judge: ModelIdentity, candidate: ModelIdentity) -> str | None:
    """Why the two count as one family; None where nothing says so."""
    if judge.shape is not None and judge.shape == candidate.shape:
        return f"both are {judge.shape[0]} networks of the same shape, so probably of one base"
    shared = judge.families & candidate.families
    if shared:
        return f"both are of the family {min(shared)}"
    return None


def check_families(judges: Sequence[ModelIdentity], candidates: Sequence[ModelIdentity], force: bool) -> str:
    """`none`, `forced` (a judge of a candidate's family judges all the same) or `unknown` (no candidate was named).

    Raises DataError for a judge of a candidate's family, unless it is forced.
    """
    if not candidates:
        return "unknown"
    found = [(j, c, why) for j in judges for c in candidates if (why := kinship(j, c)) is not None]
    if found and not force:
        judge, candidate, why = found[0]
        raise DataError(
            f"judge {judge.name}: {why} (the model under test is {candidate.name}), and judges prefer their own "
            "family; choose a judge of another family, or set force_own_family: true and the result is flagged"
        )
    return "forced" if found else "none"


def _families(name: str) -> frozenset[str]:
    """Families that a name's words speak of; else its first word. `Qwen2.5-7B` → qwen, `org/MyNet-1B` → mynet."""
    last = name.rstrip("/").rsplit("/", 1)[-1].casefold()
    words = [word for word in re.split(r"[^a-z]+", last) if word]
    known = {
        family
        for family, others in _FAMILIES.items()
        for key in (family, *others)
        if key in words
        or (len(key) >= 4 and any(word.startswith(key) or word.endswith(key) for word in words))
        or (key in ("o1", "o3", "o4") and re.match(rf"{key}\b", last))
    }
    if known:
        return frozenset(known)
    return frozenset(word for word in words[:1] if len(word) > 2 and word not in _NAMELESS)


def _shape(config: dict[str, Any]) -> tuple[Any, ...] | None:
    text = config.get("text_config") or config
    flat = {**{new: text[old] for old, new in _OLD_NAMES.items() if old in text}, **text}
    return tuple(flat.get(key) for key in _SHAPE) if flat.get("model_type") and flat.get("hidden_size") else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
