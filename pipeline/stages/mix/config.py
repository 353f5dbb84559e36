"""Which data sets are mixed, and how much of each."""

from typing import Literal

from data_prep.config import Mixture
from pipeline.contract import Flow, Node, Output, StageConfig, identity_of
from pipeline.errors import ConfigError

VERSION = 1


class MixConfig(Mixture, StageConfig):
    """Mix data sets into one, named like the stage."""

    kind: Literal["mix"] = "mix"
    """Which stage this is."""

    def extend(self, name: str, flow: Flow) -> None:
        """One node; afterwards the flow has the mixture as a data set to train on."""
        place = f"stages.{name}.parts"
        for part in self.parts:
            if part not in flow.datasets:
                raise ConfigError(f"{place}.{part}: no data set '{part}'; there are {sorted(flow.datasets)}")
            if flow.roles[part] == "eval":
                raise ConfigError(f"{place}.{part}: has role eval and is never trained on; remove it")
        if name in flow.datasets:
            raise ConfigError(f"stages.{name}: a data set has this name already; call the stage otherwise")
        config = identity_of(self)
        inputs = {part: flow.datasets[part] for part in sorted(self.parts)}
        flow.datasets[name] = Output(flow.add(Node(name, "mix", VERSION, config, identity=config, inputs=inputs)))
        flow.roles[name] = "train"
        if any(part in flow.tested for part in self.parts):
            flow.tested.add(name)
