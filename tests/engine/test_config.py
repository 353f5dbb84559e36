"""The strict gate: nothing unknown, nothing of a wrong type, nothing unused passes."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.stages as stages
from data_prep.curation.config import CurationSteps, Length
from pipeline.cli import compose, expand, options
from pipeline.config import RunConfig, validate
from pipeline.contract import identity_of
from pipeline.errors import ConfigError
from pipeline.plan import make_plan
from pipeline.stages.sft.config import SftConfig

ROOT = Path(__file__).parents[2]


def gate(*overrides: str) -> RunConfig:
    return validate(RunConfig, compose(["+experiment=smoke", *overrides]))


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        gate(*overrides)
    return str(caught.value)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_passes_the_gate(experiment: str) -> None:
    config = validate(RunConfig, compose([f"+experiment={experiment}"]))
    assert config.run and config.experiment == experiment


@pytest.mark.parametrize("group", ["model", "data", "launch"])
def test_every_option_passes_the_gate(group: str) -> None:
    for name in options(group):
        if name not in ("path", "accelerate"):  # they need a path
            extra = ["stages.sft.adapter.r=4"] if group == "model" else []
            assert gate(f"{group}={name}", *extra)


def test_every_adapter_is_chosen_in_its_place() -> None:
    for name in options("adapter"):
        config = gate(f"adapter@stages.sft.adapter={name}")
        sft = config.stages["sft"]
        assert isinstance(sft, SftConfig) and sft.adapter.kind == name


def test_every_yaml_opens_with_its_command() -> None:
    for file in (ROOT / "conf").rglob("*.yaml"):
        head = file.read_text(encoding="utf-8").splitlines()[:2]
        assert any("python -m pipeline" in line for line in head), file


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "stages.sft.lerning_rate=1e-4",
            "stages.sft.lerning_rate: unknown key (value 0.0001); did you mean learning_rate?",
        ),
        (
            "+stages.sft.lerning_rate=1e-4",
            "stages.sft.lerning_rate: unknown key (value 0.0001); did you mean learning_rate?",
        ),
        ("sed=3", "sed: unknown key (value 3); did you mean seed?"),
        ("+sed=3", "sed: unknown key (value 3); did you mean seed?"),
        ("stages.sft.adapter.rank=8", "stages.sft.adapter.rank: unknown key (value 8); allowed: r, alpha"),
        (
            "stages.sft.adapter.target=atention",
            "stages.sft.adapter.target: 'atention' is not allowed: input should be 'attention', 'mlp' or 'all-linear'; "
            "did you mean attention?",
        ),
        (
            "stages.sft.adapter.target=[3]",
            "stages.sft.adapter.target.0: 3 is not allowed: input should be a valid string",
        ),
        ("stages.filter.steps.langage.allow=[en]", "stages.filter.steps.langage: unknown key"),
        ("data.sample.sourc=x", "data.sample.sourc: unknown key (value 'x'); did you mean source?"),
        ("model.dtyp=float32", "model.dtyp: unknown key (value 'float32'); did you mean dtype?"),
        (
            "stages.sft.learning_rate=fast",
            "stages.sft.learning_rate: 'fast' is not allowed: input should be a valid number",
        ),
        ("stages.sft.max_steps=true", "stages.sft.max_steps: True is not allowed: input should be a valid integer"),
        (
            "stages.sft.batch_size=0",
            "stages.sft.batch_size: 0 is not allowed: input should be greater than or equal to 1",
        ),
        ("stages.sft.schedule=cosin", "stages.sft.schedule: 'cosin' is not allowed: input should be 'cosine'"),
        ("stages.sft.warmup_steps=30", "stages.sft: warmup_steps 30 must be below max_steps 30"),
        (
            "stages.sft.kind=stf",
            "stages.sft.kind: unknown stage kind 'stf'; did you mean sft?; allowed: filter, mix, tokenizer",
        ),
        ("run=[filter,stf]", "run: no stage 'stf' under stages:; did you mean sft?"),
        ("run=[sft,sft]", "run: ['sft'] named twice"),
        ("launch.processes=2", "launch: launch=single runs 1 process, not 2; choose launch=cpu_ranks or launch=ddp"),
        ("model=tinny", "model=tinny: unknown model; did you mean tiny?"),
        ("seed=${sead}", "Interpolation key 'sead' not found"),
        ("model=path", "model.source: not set; give it on the command line (model.source=…)"),
        ("a=[b", "no viable alternative"),
    ],
)
def test_bad_values_are_refused_with_the_next_step(override: str, expected: str) -> None:
    assert expected in refusal(override)


def test_unknown_and_plain_experiment() -> None:
    with pytest.raises(ConfigError, match=r"experiment=smok: unknown experiment; did you mean smoke\?"):
        compose(["+experiment=smok"])
    with pytest.raises(ConfigError, match=r"write \+experiment=NAME, with a plus"):
        compose(["experiment=smoke"])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["launch=cpu_ranks", "launch.processes=3"], "stages.sft: batch_size 8 cannot be shared by 3 processes"),
        (["stages.sft.micro_batch_size=3"], "stages.sft: micro_batch_size 3 does not divide the 8 sequences"),
        (
            ["data.sample.splits={train: 0.9, validation: 0.1, test: 0.0}"],
            "stages.evaluate: no data set has test rows; raise data.NAME.splits.test or add role: eval",
        ),
        (["stages.sft.from=dpo"], "stages.sft.from: no model 'dpo'; there are ['base']"),
        (["stages.sft.dataset=rows"], "stages.sft.dataset: no data set 'rows'; there are ['sample']"),
        (["stages.evaluate.compare=[base,dpo]"], "stages.evaluate.compare: no model 'dpo' before this stage"),
        (["stages.evaluate.perplexity=null", "stages.evaluate.generation=null"], "stages.evaluate: perplexity and"),
        (
            ["data.sample.lead={field: prompt, max_tokens: 9}"],
            "data.sample.lead: counts tokens of the model, but a scratch",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_the_plan(overrides: list[str], expected: str, tmp_path: Path) -> None:
    """Before anything runs: a mistake must not wait until the training is over."""
    with pytest.raises(ConfigError) as caught:
        make_plan(gate(*overrides, f"outputs={tmp_path}"))
    assert expected in str(caught.value)


def test_the_typo_is_answered_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys; from pipeline.cli import main\n"
        "try: main(['+experiment=smoke', 'stages.sft.lerning_rate=1'])\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules), 'heavy import'"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("error: stages.sft.lerning_rate: unknown key")
    assert "Traceback" not in done.stderr


@given(st.text(min_size=1, max_size=30).filter(lambda text: "\n" not in text))
def test_any_path_survives_the_shorthand(name: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    path = f"folder/{name}"
    expanded = expand(f"model={path}")
    if len(expanded) == 2:  # a list of choices for a sweep is left alone
        parsed = OverridesParser.create().parse_override(expanded[1])
        assert parsed.value() == path


def test_model_and_data_shorthand(tmp_path: Path) -> None:
    rows = tmp_path / "my rows.v2.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    config = gate(f"data={rows}", "model=org/name")
    assert list(config.data) == ["my_rows"] and config.data["my_rows"].source == str(rows)
    assert config.model.source == "org/name"


def consumed_names() -> set[str]:
    """Every attribute and every string key that the project's code reads."""
    names: set[str] = set()
    for package in ("pipeline", "data_prep", "eval"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    names.add(node.attr)
                elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                    names.add(str(node.slice.value))
    return names


def test_every_field_is_read_somewhere() -> None:
    """A field that nothing reads would be a setting that lies."""
    from data_prep.gate import models_in

    seen, todo, read = set(), [RunConfig, *stages.STAGES.values()], consumed_names()
    while todo:
        model = todo.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name} has no docstring"
            # Read by getattr: f"min_{side}_words" (tests/data_prep/test_curation.py moves each limit), and each step.
            by_name = model in (Length, CurationSteps)
            assert name in read or by_name, f"{model.__name__}.{name} is read nowhere"
            todo += models_in(info.annotation)
    assert len(seen) > 12


def test_speed_settings_stay_outside_the_identity() -> None:
    slow = gate("stages.sft.micro_batch_size=1", "stages.sft.checkpoint_every=3").stages["sft"]
    assert identity_of(slow) == identity_of(gate().stages["sft"])
    assert identity_of(gate("stages.sft.learning_rate=1e-3").stages["sft"]) != identity_of(slow)
