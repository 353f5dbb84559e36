"""Verdicts of a judge on two models' answers to the same prompts."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.progress import Track
from eval.judge.config import JudgeConfig
from eval.judge.family import identify
from eval.judge.games import pairs_of
from eval.judge.labelling import labelling_page
from eval.judge.run import CACHE, SUMMARY, VERDICTS, judge
from eval.predictions import predictions_path, read_predictions

LABELLING_PAGE = "labelling.html"


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`verdicts.jsonl`, `summary.json` and the page on which a person can judge thirty pairs.

    Verdicts that came before a kill are kept under `checkpoints/`. A data set of whole texts has no answers: no file.
    """
    asked, dataset = JudgeConfig.model_validate(config["judge"]), config["dataset"]
    if not predictions_path(inputs["tuned"], dataset, "generation").exists():
        return {}
    base, tuned = (read_predictions(inputs[side], dataset, "generation") for side in ("base", "tuned"))
    weights = [path for label, path in inputs.items() if label.endswith("_weights") or "_adapter_" in label]
    candidates = [identify(path, *config["names"]) for path in weights]
    unfinished = out / "checkpoints"
    unfinished.mkdir(exist_ok=True)
    summary = judge(asked, base, tuned, unfinished, candidates=candidates, cache=unfinished / CACHE, track=track)
    for name in (VERDICTS, SUMMARY):
        shutil.copyfile(unfinished / name, out / name)
    try:
        labelling_page(pairs_of(base, tuned, asked), out / LABELLING_PAGE)
    except DataError:  # the two models answer alike: there is nothing to label
        (out / LABELLING_PAGE).unlink(missing_ok=True)
    return {**summary["metrics"], "verdicts": float(summary["card"]["failures"]["of"])}
