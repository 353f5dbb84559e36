"""Which rows are dropped."""

from typing import Literal

from data_prep.curation.config import CurationSteps
from pipeline.contract import Flow, Node, Output, StageConfig, identity_of
from pipeline.errors import ConfigError

VERSION = 1


class FilterConfig(StageConfig):
    """Curate data sets before they are used."""

    kind: Literal["filter"] = "filter"
    """Which stage this is."""
    datasets: list[str] | None = None
    """The data sets to curate; without it, all of them."""
    steps: CurationSteps = CurationSteps()
    """The rules, in their fixed order; `null` switches one off."""

    def extend(self, name: str, flow: Flow) -> None:
        """One node over all its data sets; afterwards the flow holds the filtered ones."""
        chosen = self.datasets if self.datasets is not None else list(flow.datasets)
        for dataset in chosen:
            if dataset not in flow.datasets:
                raise ConfigError(f"stages.{name}.datasets: no data set '{dataset}'; there are {sorted(flow.datasets)}")
        node = Node(
            name=name,
            kind="filter",
            version=VERSION,
            config={**identity_of(self), "stage": name, "datasets": chosen},
            identity={**identity_of(self), "datasets": chosen},
            inputs={dataset: flow.datasets[dataset] for dataset in chosen},
        )
        flow.add(node)
        flow.datasets |= {dataset: Output(node, dataset) for dataset in chosen}
