"""What a stage is: its configuration class, and the nodes that it adds to the flow of a run.

A *node* is one piece of work with one artifact. A stage adds one node or several (`sft` adds `sft/prepare` and
`sft/train`), so that each part is cached by exactly what it depends on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from data_prep.strict import StrictModel


def canonical_json(value: Any) -> str:
    """One spelling for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def outside_fingerprint(default: Any, **constraints: Any) -> Any:
    """A field that may change how fast a stage runs, but not what it makes."""
    return Field(default, json_schema_extra={"fingerprint": False}, **constraints)


def identity_of(config: StrictModel) -> dict[str, Any]:
    """The part of a configuration that decides the result: all fields but those `outside_fingerprint`."""
    outside = {
        name
        for name, info in type(config).model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("fingerprint") is False
    }
    return config.model_dump(mode="json", exclude=outside)


@dataclass(frozen=True)
class Node:
    """One piece of work. `fingerprint` names its artifact; everything that changes the result is in it."""

    name: str
    """Where it stands in the run: `sft/train`."""
    kind: str
    """Which code runs it: `sft.train` is `pipeline.stages.sft.train`."""
    version: int
    """Raised by hand when the code of the stage changes what it makes."""
    config: Mapping[str, Any]
    """What the code is given (JSON values)."""
    identity: Mapping[str, Any]
    """What is hashed of it: content hashes in place of paths, nothing that only changes the speed."""
    inputs: Mapping[str, "Output"] = field(default_factory=dict)
    ranks: bool = False
    """Whether it runs on `launch.processes` ranks."""
    work: Mapping[str, float] = field(default_factory=dict)
    """What the plan estimates from: steps, sequences per step, new tokens … (not hashed)."""

    @cached_property
    def fingerprint(self) -> str:
        """First 12 hex digits of the sha256 of kind, version, identity and the inputs' fingerprints."""
        payload = {
            "kind": self.kind,
            "version": self.version,
            "config": self.identity,
            "inputs": {label: [output.node.fingerprint, output.path] for label, output in self.inputs.items()},
        }
        return hashlib.sha256(canonical_json(payload).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Output:
    """A folder inside a node's artifact, as the input of a later node."""

    node: Node
    path: str = ""


@dataclass(frozen=True)
class ModelRef:
    """A model in the flow: full weights, and the adapters trained on top of them, oldest first."""

    weights: Output
    adapters: tuple[Output, ...] = ()

    def as_inputs(self, prefix: str = "") -> dict[str, Output]:
        """Labels for a node's inputs: `weights`, `adapter_0`, `adapter_1` …"""
        adapters = {f"{prefix}adapter_{index}": adapter for index, adapter in enumerate(self.adapters)}
        return {f"{prefix}weights": self.weights, **adapters}


@dataclass
class Flow:
    """What flows down the list of stages while a plan is made."""

    seed: int
    model_dtype: str
    attention: str
    trust_remote_code: bool
    processes: int = 1
    """Groups of ranks that take rows of their own; a group is one rank, unless the next two say more."""
    tensor_parallel: int = 1
    """Ranks that divide each matrix."""
    context_parallel: int = 1
    """Ranks that divide each sequence."""
    architecture: Mapping[str, Any] | None = None
    """A model from scratch, until a tokenizer is trained and it gets its first weights."""
    models: dict[str, ModelRef] = field(default_factory=dict)
    datasets: dict[str, Output] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    carried: dict[str, list[str]] = field(default_factory=dict)
    """The columns that each data set carries along without training on them."""
    sources: dict[str, Output] = field(default_factory=dict)
    """The data sets as they were read, before any filter."""
    tested: set[str] = field(default_factory=set)
    """The data sets that have a test split."""
    trained_on: dict[str, Output] = field(default_factory=dict)
    """The data sets that a stage so far trains on."""
    decontaminated: set[str] = field(default_factory=set)
    """The evaluations that training rows were cleaned of."""
    artifacts: Path = Path("outputs/artifacts")
    """The folder of all artifacts."""
    finished: Callable[[Node], bool] = lambda _node: False
    """Whether the artifact of a node exists already."""
    nodes: list[Node] = field(default_factory=list)

    def add(self, node: Node) -> Node:
        """Append a node, and return it for use as an input."""
        self.nodes.append(node)
        return node

    @property
    def newest_model(self) -> str:
        """The name of the model that the next stage starts from."""
        from pipeline.errors import ConfigError

        if not self.models:
            raise ConfigError(
                "run: the model is an architecture without a tokenizer; put a stage of kind tokenizer first"
            )
        return next(reversed(self.models))

    def model_named(self, name: str | None, key: str) -> tuple[str, "ModelRef"]:
        """The model of that name, else the newest; ConfigError at `key` when there is none of that name."""
        from pipeline.errors import ConfigError

        chosen = name or self.newest_model
        if chosen not in self.models:
            raise ConfigError(f"{key}: no model '{chosen}'; there are {list(self.models)}")
        return chosen, self.models[chosen]

    def dataset_for_training(self, named: str | None, stage: str) -> str:
        """The data set a training stage uses: the named one, or the only one with `role: train`."""
        from pipeline.errors import ConfigError

        training = [name for name, role in self.roles.items() if role == "train"]
        if named is not None and named not in self.roles:
            raise ConfigError(f"stages.{stage}.dataset: no data set '{named}'; there are {sorted(self.roles)}")
        if named is None and len(training) != 1:
            raise ConfigError(
                f"stages.{stage}.dataset: which data set? {len(training)} have role train ({training}); name one"
            )
        return named or training[0]


class StageConfig(StrictModel):
    """The base of every stage's configuration."""

    def extend(self, name: str, flow: Flow) -> None:
        """Add this stage's nodes to the flow, under the stage's name."""
        raise TypeError(f"{type(self).__name__} adds no nodes")
