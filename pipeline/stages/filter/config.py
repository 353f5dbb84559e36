"""Which rows are dropped."""

from itertools import combinations
from typing import Any, Literal

from data_prep.curation.config import CurationSteps
from data_prep.curation.registry import identity_of
from data_prep.engines.config import Engine, LocalEngine
from data_prep.errors import DataError
from data_prep.strict import measured_part
from pipeline.contract import Flow, Node, Output, StageConfig, outside_fingerprint
from pipeline.errors import ConfigError

MEASURE_VERSION = 2
VERSION = 2

MOST_EVALUATIONS = 8
"""Up to so many evaluation data sets, every subset of them is looked up among the finished artifacts."""


class FilterConfig(StageConfig):
    """Curate data sets before they are used."""

    kind: Literal["filter"] = "filter"
    """Which stage this is."""
    datasets: list[str] | None = None
    """The data sets to curate; without it, all but evaluations (`role: eval`), which are measured as they came."""
    steps: CurationSteps = CurationSteps()
    """The rules, in their fixed order; `null` switches one off."""
    self_test: bool = False
    """Plant near-duplicates, personal data and items of the evaluations into a copy of some training rows, and report
    how many the steps find; nothing that was planted stays."""
    engine: Engine = outside_fingerprint(LocalEngine())
    """What the work runs on: processes of this machine, or Ray. The result is the same."""

    def extend(self, name: str, flow: Flow) -> None:
        """Per data set a node that measures, and one that decides: other thresholds only decide anew.

        Afterwards the flow holds the filtered data sets.
        """
        chosen = self._chosen(name, flow)
        key_check = _pseudonym_key(self.steps, name, flow)
        for dataset in chosen:
            place = f"{name}/{dataset}" if len(chosen) > 1 else name
            self._refuse_what_was_not_carried(name, dataset, flow)
            measure = flow.add(self._measure(place, dataset, name, flow))
            node = self._decide(place, dataset, measure, name, key_check)
            flow.datasets[dataset] = Output(flow.add(node), dataset)
            flow.decontaminated |= {label.removeprefix("against.") for label in measure.inputs if "against." in label}

    def _chosen(self, name: str, flow: Flow) -> list[str]:
        trained = [dataset for dataset in flow.datasets if flow.roles[dataset] != "eval"]
        chosen = self.datasets if self.datasets is not None else trained or list(flow.datasets)
        for dataset in chosen:
            if dataset not in flow.datasets:
                raise ConfigError(f"stages.{name}.datasets: no data set '{dataset}'; there are {sorted(flow.datasets)}")
        return chosen

    def _decide(self, place: str, dataset: str, measure: Node, stage: str, key_check: str | None) -> Node:
        steps = measure.config["steps"]  # without decontamination where the data set is an evaluation itself
        return Node(
            name=place,
            kind="filter",
            version=VERSION,
            config={
                "stage": stage,
                "dataset": dataset,
                "steps": steps,
                "engine": self.engine.model_dump(mode="json"),
                "key_check": key_check,
                "self_test": self.self_test,
            },
            identity={"dataset": dataset, "steps": steps, "key_check": key_check, "self_test": self.self_test},
            inputs={"measured": Output(measure), **(measure.inputs if self.self_test else {})},
        )

    def _refuse_what_was_not_carried(self, stage: str, dataset: str, flow: Flow) -> None:
        """A consent rule about a column that no row has would drop everything, or nothing."""
        if self.steps.consent is None or dataset not in flow.carried:
            return
        from data_prep.curation.consent.step import never_carried

        missing = never_carried(self.steps.consent, flow.carried[dataset])
        if missing:
            place = f"stages.{stage}.steps.consent"
            advice = f"add it to data.{dataset}.keep"
            raise ConfigError(f"{place}: the column {missing[0]} is not carried along with '{dataset}'; {advice}")

    def _measure(self, place: str, dataset: str, stage: str, flow: Flow) -> Node:
        """The measuring node, against all evaluations, or against those that a finished one was made against.

        So an evaluation that is added later trains nothing again: it is scored without the items that overlap.
        """
        evaluations = self._evaluations(stage, dataset, flow)
        node = self._measure_against(place, dataset, evaluations, stage, flow)
        named = self.steps.decontamination is not None and self.steps.decontamination.against is not None
        if named or flow.finished(node) or len(evaluations) > MOST_EVALUATIONS:
            return node
        fewer = (
            self._measure_against(place, dataset, list(subset), stage, flow)
            for size in range(len(evaluations) - 1, 0, -1)
            for subset in combinations(evaluations, size)
        )
        return next((each for each in fewer if flow.finished(each)), node)

    def _evaluations(self, stage: str, dataset: str, flow: Flow) -> list[str]:
        """The data sets that the rows of this one must not repeat; an evaluation itself is never decontaminated."""
        if self.steps.decontamination is None or flow.roles[dataset] == "eval":
            return []
        against = self.steps.decontamination.against
        for other in against or []:
            if other not in flow.datasets:
                place = f"stages.{stage}.steps.decontamination.against"
                raise ConfigError(f"{place}: no data set '{other}'; there are {sorted(flow.datasets)}")
        found = against if against is not None else [each for each, role in flow.roles.items() if role == "eval"]
        if not found:
            advice = "add an evaluation with role: eval, or set decontamination to null"
            raise ConfigError(f"stages.{stage}.steps.decontamination: no data set has role: eval; {advice}")
        return [each for each in found if each != dataset]

    def _measure_against(self, place: str, dataset: str, evaluations: list[str], stage: str, flow: Flow) -> Node:
        steps = self.steps if evaluations else self.steps.model_copy(update={"decontamination": None})
        inputs = {dataset: flow.datasets[dataset]}
        return Node(
            name=f"{place}/measure",
            kind="filter.measure",
            version=MEASURE_VERSION,
            config={
                "stage": stage,
                "dataset": dataset,
                "steps": steps.model_dump(mode="json"),
                "engine": self.engine.model_dump(mode="json"),
                "against": evaluations,
            },
            identity={
                "dataset": dataset,
                "steps": measured_part(steps),
                "outside": _outside(steps, stage),
                "against": evaluations,
            },
            inputs=inputs | {f"against.{each}": flow.sources[each] for each in evaluations},
        )


def _outside(steps: CurationSteps, stage: str) -> dict[str, Any]:
    """What decides the measures and stands in no setting, such as the weights of classifiers."""
    try:
        return identity_of(steps)
    except DataError as error:
        raise ConfigError(str(error).replace("stages.filter.", f"stages.{stage}.")) from error


def _pseudonym_key(steps: CurationSteps, stage: str, flow: Flow) -> str | None:
    """The check value of the pseudonyms' key; another key than that of finished artifacts is refused."""
    if steps.pii is None or steps.pii.action != "pseudonym":
        return None
    from data_prep.curation.pii.key import key_check, read_key

    before = sorted(path.read_text(encoding="utf-8") for path in flow.artifacts.glob("filter/*/key_check"))
    try:
        return key_check(read_key(before[0] if before else None))
    except DataError as error:
        raise ConfigError(str(error).replace("stages.filter.", f"stages.{stage}.")) from error
