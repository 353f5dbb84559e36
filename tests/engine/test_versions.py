"""A stage whose code changed makes something else: its VERSION must rise, or cached artifacts would lie.

The golden file holds, per node kind, the VERSION and the hash of the code behind it (comments and docstrings left out).
After a change: raise the kind's VERSION when the artifact can differ; then, or when it cannot, record the new hash with
`UPDATE_GOLDEN=1 pytest tests/engine/test_versions.py` — the line in the diff is the waiver that a reviewer sees.
"""

import ast
import hashlib
import json
import os
from pathlib import Path

import pytest

from pipeline.plan import DATA_VERSION
from pipeline.stages import RUNNERS
from pipeline.stages.dpo.config import TRAIN_VERSION as DPO_VERSION
from pipeline.stages.evaluate.config import (
    BASELINE_VERSION,
    COMPARE_VERSION,
    GENERAL_VERSION,
    JUDGE_VERSION,
    OVERLAP_VERSION,
    PREDICT_VERSION,
)
from pipeline.stages.export.config import VERSION as EXPORT_VERSION
from pipeline.stages.filter.config import MEASURE_VERSION
from pipeline.stages.filter.config import VERSION as FILTER_VERSION
from pipeline.stages.kto.config import TRAIN_VERSION as KTO_VERSION
from pipeline.stages.merge.config import VERSION as MERGE_VERSION
from pipeline.stages.mix.config import VERSION as MIX_VERSION
from pipeline.stages.model.config import START_VERSION
from pipeline.stages.model.config import VERSION as MODEL_VERSION
from pipeline.stages.orpo.config import TRAIN_VERSION as ORPO_VERSION
from pipeline.stages.pretrain.config import PREPARE_VERSION as PRETRAIN_PREPARE_VERSION
from pipeline.stages.pretrain.config import TRAIN_VERSION as PRETRAIN_TRAIN_VERSION
from pipeline.stages.sft.config import PREPARE_VERSION, TRAIN_VERSION
from pipeline.stages.simpo.config import TRAIN_VERSION as SIMPO_VERSION
from pipeline.stages.tokenizer.config import EXTEND_VERSION
from pipeline.stages.tokenizer.config import TRAIN_VERSION as TOKENIZER_VERSION
from pipeline.training.flow import TEMPLATE_VERSION
from pipeline.training.preference_config import PREPARE_VERSION as PREFERENCE_PREPARE_VERSION
from pipeline.training.preference_config import REFERENCE_VERSION

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "stage_sources.json"

JUDGED = [
    f"data_prep/tokens/{name}.py" for name in ("arrow", "audit", "config", "masks", "preference", "prepare", "template")
]
"""What makes tokens of judged answers."""

SOURCES = {
    "model": (MODEL_VERSION, [f"pipeline/stages/model/{name}.py" for name in ("config", "run", "scratch")]),
    "model.start": (START_VERSION, ["pipeline/stages/model/start.py", "pipeline/models/*.py"]),
    "data": (DATA_VERSION, ["pipeline/stages/data/run.py", "data_prep/*.py"]),
    "filter.measure": (MEASURE_VERSION, ["pipeline/stages/filter/measure.py", "data_prep/curation/**/*.py"]),
    "filter": (FILTER_VERSION, ["pipeline/stages/filter/run.py", "data_prep/curation/**/*.py"]),
    "mix": (MIX_VERSION, ["pipeline/stages/mix/run.py", "data_prep/mixture.py", "data_prep/shares.py"]),
    "tokenizer": (
        TOKENIZER_VERSION,
        [*(f"pipeline/stages/tokenizer/{name}.py" for name in ("run", "rows")), "data_prep/tokens/vocabulary/*.py"],
    ),
    "tokenizer.extend": (
        EXTEND_VERSION,
        [
            *(f"pipeline/stages/tokenizer/{name}.py" for name in ("extend", "rows")),
            "data_prep/tokens/vocabulary/extend.py",
        ],
    ),
    "pretrain.prepare": (
        PRETRAIN_PREPARE_VERSION,
        [
            "pipeline/stages/pretrain/prepare.py",
            *(f"data_prep/tokens/{name}.py" for name in ("corpus", "corpus_rows", "corruption", "packing", "arrow")),
        ],
    ),
    "pretrain.train": (PRETRAIN_TRAIN_VERSION, ["pipeline/stages/pretrain/train.py", "pipeline/training/*.py"]),
    "sft.template": (
        TEMPLATE_VERSION,
        ["pipeline/stages/sft/template.py", "data_prep/tokens/choose.py", "data_prep/tokens/chat_templates/*.jinja"],
    ),
    "sft.prepare": (
        PREPARE_VERSION,
        [
            "pipeline/stages/sft/prepare.py",
            *(f"data_prep/tokens/{name}.py" for name in ("arrow", "audit", "config", "masks", "prepare", "template")),
            *(f"data_prep/tokens/{name}.py" for name in ("answer_spans", "choose", "marks", "probes", "typed")),
            *(f"data_prep/tokens/{name}.py" for name in ("packed_rows", "packing")),
        ],
    ),
    "sft.train": (TRAIN_VERSION, ["pipeline/stages/sft/train.py", "pipeline/training/*.py"]),
    "dpo.prepare": (PREFERENCE_PREPARE_VERSION, ["pipeline/stages/dpo/prepare.py", *JUDGED]),
    "dpo.reference": (
        REFERENCE_VERSION,
        [
            *(f"pipeline/stages/dpo/{name}.py" for name in ("reference", "train")),
            *(f"pipeline/training/{name}.py" for name in ("pairs", "preference_reference", "models")),
        ],
    ),
    "dpo.train": (DPO_VERSION, ["pipeline/stages/dpo/train.py", "pipeline/training/*.py"]),
    "kto.prepare": (
        PREFERENCE_PREPARE_VERSION,
        ["pipeline/stages/kto/prepare.py", "data_prep/tokens/answers.py", *JUDGED],
    ),
    "kto.reference": (
        REFERENCE_VERSION,
        [
            *(f"pipeline/stages/kto/{name}.py" for name in ("reference", "train")),
            *(f"pipeline/training/{name}.py" for name in ("answers", "preference_reference", "models")),
        ],
    ),
    "kto.train": (KTO_VERSION, ["pipeline/stages/kto/train.py", "pipeline/training/*.py"]),
    "orpo.train": (ORPO_VERSION, ["pipeline/stages/orpo/train.py", "pipeline/training/*.py"]),
    "simpo.train": (SIMPO_VERSION, ["pipeline/stages/simpo/train.py", "pipeline/training/*.py"]),
    "merge": (MERGE_VERSION, ["pipeline/stages/merge/run.py", "pipeline/training/merging.py", "eval/adapters.py"]),
    "export": (
        EXPORT_VERSION,
        ["pipeline/stages/export/*.py", "pipeline/training/merging.py", "eval/adapters.py"],
    ),
    "evaluate.predict": (
        PREDICT_VERSION,
        [
            *(f"pipeline/stages/evaluate/{name}.py" for name in ("predict", "spread")),
            *(
                f"eval/{name}.py"
                for name in ("loading", "samples", "generation", "predictions", "predict", "benchmarks", "adapters")
            ),
            "eval/shares.py",
            "eval/server/*.py",
            "eval/decoding/*.py",
            "eval/reasoning/*.py",
            "eval/measures/*.py",
            "eval/choice/*.py",
            "eval/fairness/*.py",
            "data_prep/tokens/template.py",
            "data_prep/tokens/typed.py",
        ],
    ),
    "evaluate.general": (GENERAL_VERSION, ["pipeline/stages/evaluate/general.py"]),
    "evaluate.baseline": (BASELINE_VERSION, ["pipeline/stages/evaluate/baseline.py", "eval/ngram.py"]),
    "evaluate.judge": (
        JUDGE_VERSION,
        ["pipeline/stages/evaluate/judge.py", "eval/judge/*.py", "eval/server/client.py"],
    ),
    "evaluate.overlap": (
        OVERLAP_VERSION,
        ["pipeline/stages/evaluate/overlap.py", "data_prep/curation/decontamination/*.py"],
    ),
    "evaluate.compare": (
        COMPARE_VERSION,
        [
            "pipeline/stages/evaluate/compare.py",
            *(
                f"eval/{name}.py"
                for name in ("compare", "statistics", "tasks", "answer_tasks", "custom_metrics", "ngram")
            ),
            *(f"eval/measures/{name}.py" for name in ("text", "sums", "answers", "repetition")),
            *(f"eval/choice/{name}.py" for name in ("metrics", "statistics", "cloze")),
            "eval/fairness/*.py",
            *(f"eval/judge/{name}.py" for name in ("summary", "table", "length", "agreement")),
        ],
    ),
}


def code_hash(patterns: list[str]) -> str:
    """Hash of the files' syntax trees without docstrings; of other files, of their bytes."""
    digest = hashlib.sha256()
    for file in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        if file.suffix != ".py":
            digest.update(file.read_bytes())
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [part for part in body if not _is_string(part)]  # pyright: ignore[reportAttributeAccessIssue]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def _is_string(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def test_every_kind_is_watched() -> None:
    assert set(SOURCES) == set(RUNNERS)


@pytest.mark.parametrize("kind", SOURCES)
def test_changed_code_has_a_new_version(kind: str) -> None:
    version, patterns = SOURCES[kind]
    now = {"version": version, "code": code_hash(patterns)}
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {kind: now}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    assert golden[kind] == now, (
        f"the code behind {kind} changed: raise its VERSION if its artifact can differ, "
        "then record it with UPDATE_GOLDEN=1 pytest tests/engine/test_versions.py"
    )
