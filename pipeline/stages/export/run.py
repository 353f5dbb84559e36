"""Export a model: `model/` (safetensors), `model.gguf`, `Modelfile`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from pipeline.artifacts import write_text
from pipeline.training.merging import save_merged


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """Adapters are merged first. DataError when GGUF cannot say what the model or its tokenizer is."""
    from pipeline.stages.export.gguf_file import write_gguf
    from pipeline.stages.export.modelfile import modelfile
    from pipeline.training.models import load_tokenizer

    metrics = save_merged(inputs, out / "model", config["dtype"], config["trust_remote_code"])
    if config["gguf"] is None:
        return metrics
    tokenizer = load_tokenizer(out / "model", config["trust_remote_code"])
    file = out / "model.gguf"
    write_gguf(out / "model", tokenizer, file, config["gguf"], config["name"], config["gguf_tokenizer"], track)
    write_text(out / "Modelfile", modelfile(tokenizer, file.name))
    return {**metrics, "gguf_bytes": float(file.stat().st_size)}
