"""Which class edits and judges rows for each step of the configuration. The classes are imported when they are used."""

from importlib import import_module
from pathlib import Path
from typing import Any

from data_prep.curation.config import CurationSteps
from data_prep.curation.step import Edit, Step

STEPS = {
    "consent": "data_prep.curation.consent.step:ConsentStep",
    "empty": "data_prep.curation.empty.step:EmptyStep",
    "language": "data_prep.curation.language.step:LanguageStep",
    "length": "data_prep.curation.length.step:LengthStep",
    "quality": "data_prep.curation.quality.step:QualityStep",
    "toxicity": "data_prep.curation.toxicity.step:ToxicityStep",
    "pii": "data_prep.curation.pii.step:PiiStep",
}
"""Steps that judge each row by itself and need nothing but their configuration."""

EDITORS = {
    "normalise": "data_prep.curation.normalise.edit:Normaliser",
}
"""Steps that change rows before anything is measured."""

IDENTITIES = {
    "classifiers": "data_prep.curation.classifiers.step:content_identity",
    "toxicity": "data_prep.curation.toxicity.scorer:content_identity",
    "pii": "data_prep.curation.pii.key:pii_identity",
}
"""Steps that depend on more than their configuration."""


def step_names(steps: CurationSteps) -> list[str]:
    """The steps that are switched on, in their order."""
    return [name for name in CurationSteps.model_fields if getattr(steps, name)]


def judging(steps: CurationSteps) -> list[str]:
    """The names under which rows are judged, in their order: the steps but those that change rows, each classifier."""
    names: list[str] = []
    for name in step_names(steps):
        if name == "classifiers":
            names += [f"classifiers.{each}" for each in steps.classifiers]
        elif name not in EDITORS and name != "repeated_parts":
            names.append(name)
    return names


def make_steps(steps: CurationSteps, index: Path | None) -> dict[str, Step]:
    """The steps that judge each row by itself, in their order; `index`: the decontamination index."""
    made: dict[str, Step] = {}
    for name in step_names(steps):
        if name in STEPS:
            made[name] = _load(STEPS[name])(getattr(steps, name))
        elif name == "classifiers":
            from data_prep.curation.classifiers.step import ClassifierStep

            made |= {f"classifiers.{each}": ClassifierStep(each, one) for each, one in steps.classifiers.items()}
        elif name == "decontamination" and steps.decontamination is not None:
            from data_prep.curation.decontamination.step import DecontaminationStep

            made[name] = DecontaminationStep(steps.decontamination, index or Path("contamination.index"))
    return made


def make_editors(steps: CurationSteps, boilerplate: Path | None) -> dict[str, Edit]:
    """The steps that change rows, in their order; `boilerplate`: the parts to remove, once they are known."""
    made: dict[str, Edit] = {
        name: _load(path)(getattr(steps, name)) for name, path in EDITORS.items() if getattr(steps, name)
    }
    if boilerplate is not None and steps.repeated_parts is not None:
        from data_prep.curation.repeated_parts.edit import PartRemover

        made["repeated_parts"] = PartRemover(steps.repeated_parts, boilerplate)
    return made


def _load(path: str):
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def identity_of(steps: CurationSteps) -> dict[str, Any]:
    """What decides the measures and stands in no setting: the weights of classifiers.

    Raises:
        DataError: a model is missing.
    """
    found: dict[str, Any] = {}
    for name, path in IDENTITIES.items():
        config = getattr(steps, name)
        if config:
            each = config.items() if isinstance(config, dict) else [("", config)]
            found |= {f"{name}.{label}".rstrip("."): _load(path)(one) for label, one in each}
    return {name: identity for name, identity in found.items() if identity}
