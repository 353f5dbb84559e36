"""Verdicts of a judge on two models' answers to the same prompts."""

import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.engines.config import RayEngine
from data_prep.errors import DataError
from data_prep.progress import Track, silent
from eval.judge.backend import Backend, backend_of
from eval.judge.config import JudgeConfig, LocalJudge
from eval.judge.family import ModelIdentity, identify
from eval.judge.games import pairs_of
from eval.judge.labelling import labelling_page
from eval.judge.run import CACHE, SUMMARY, VERDICTS, judge, judge_share
from eval.predictions import Prediction, predictions_path, read_predictions
from eval.shares import Share, taking
from pipeline.stages.evaluate.config import JudgeNodeConfig
from pipeline.stages.evaluate.spread import gathered, over_ray, share_of_rank

LABELLING_PAGE = "labelling.html"


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, track: Track) -> dict[str, float]:
    """`verdicts.jsonl`, `summary.json` and the page on which a person can judge thirty pairs.

    Verdicts that came before a kill are kept under `checkpoints/`. A data set of whole texts has no answers: no file.
    Judges that run here are asked by all ranks, or on a Ray cluster; servers by one process, with their concurrency.
    """
    asked = JudgeNodeConfig.model_validate(config)
    if not predictions_path(inputs["tuned"], asked.dataset, "generation").exists():
        return {}
    unfinished = out / "checkpoints"
    unfinished.mkdir(exist_ok=True)
    mine, failed = share_of_rank(), list[dict[str, str]]()
    backends = [backend_of(item) for item in asked.judge.judges]
    if isinstance(asked.spread, RayEngine) and asked.judge.has_local:
        failed = over_ray(asked.spread, "evaluate.judge", config, inputs, unfinished, track)
    if mine is not None:
        with taking(mine):
            failed = gathered(
                _ask_share(asked, inputs, unfinished, backends, track if mine.index == 0 else silent), unfinished
            )
        if mine.index:
            return {}
    base, tuned, candidates = _material(asked, inputs)
    known = {key: why for share in failed for key, why in share.items()}
    kept = {"candidates": candidates, "cache": unfinished / CACHE, "track": track}
    summary = judge(asked.judge, base, tuned, unfinished, **kept, backends=backends, failed=known)
    for name in (VERDICTS, SUMMARY):
        shutil.copyfile(unfinished / name, out / name)
    try:
        labelling_page(pairs_of(base, tuned, asked.judge), out / LABELLING_PAGE)
    except DataError:  # the two models answer alike: there is nothing to label
        (out / LABELLING_PAGE).unlink(missing_ok=True)
    return {**summary["metrics"], "verdicts": float(summary["card"]["failures"]["of"])}


def run_share(config: Mapping[str, Any], inputs: Mapping[str, Path], unfinished: Path, share: Share) -> dict[str, str]:
    """One share, on a node of a cluster: why questions failed, by their keys."""
    asked = JudgeNodeConfig.model_validate(config)
    with taking(share):
        return _ask_share(asked, inputs, unfinished, _kept(asked.judge.model_dump_json()), silent)


@functools.lru_cache(maxsize=1)
def _kept(judge: str) -> list[Backend]:
    """The judges of the last share, with their models: a worker of a cluster takes several shares."""
    return [backend_of(item) for item in JudgeConfig.model_validate_json(judge).judges]


def _ask_share(
    asked: JudgeNodeConfig, inputs: Mapping[str, Path], unfinished: Path, backends: Sequence[Backend], track: Track
) -> dict[str, str]:
    base, tuned, candidates = _material(asked, inputs)
    local = [one for one, item in zip(backends, asked.judge.judges, strict=True) if isinstance(item, LocalJudge)]
    return judge_share(asked.judge, base, tuned, unfinished / CACHE, local, candidates, track)


def _material(
    asked: JudgeNodeConfig, inputs: Mapping[str, Path]
) -> tuple[list[Prediction], list[Prediction], list[ModelIdentity]]:
    """Both models' answers, and who they are."""
    base, tuned = (read_predictions(inputs[side], asked.dataset, "generation") for side in ("base", "tuned"))
    weights = [path for label, path in inputs.items() if label.endswith("_weights") or "_adapter_" in label]
    return base, tuned, [identify(path, *asked.names) for path in weights]
