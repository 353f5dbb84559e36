"""Train a tokenizer on the run's rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.progress import Track
from data_prep.tokens.vocabulary.config import VocabularyConfig
from data_prep.tokens.vocabulary.train import train_tokenizer
from pipeline.stages.tokenizer.rows import TrainingTexts


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`tokenizer/`, a fast tokenizer of transformers."""
    asked = VocabularyConfig.model_validate(config["vocabulary"])
    told = config["architecture"]
    tokenizer = train_tokenizer(
        TrainingTexts(inputs, track), asked, told["vocab_size"], told["max_position_embeddings"]
    )
    tokenizer.save_pretrained(out / "tokenizer")
    return {"tokens_in_vocabulary": float(len(tokenizer))}
