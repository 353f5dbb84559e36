"""The root of the configuration, and the strict gate that everything passes: past it nothing is a DictConfig.

The gate answers a typo with the nearest valid name before anything heavy is imported:
`stages.sft.lerning_rate: unknown key (value 0.001); did you mean learning_rate?`
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, model_validator

from data_prep.config import DatasetConfig
from data_prep.gate import Model, build, nearest
from data_prep.strict import StrictModel
from eval.energy import EnergyConfig
from pipeline.contract import StageConfig
from pipeline.errors import ConfigError
from pipeline.parallel_config import ParallelConfig, clash_of_groups, refuse_groups_of_file
from pipeline.stages import STAGES
from pipeline.stages.model.config import ModelConfig
from pipeline.sweep_config import Objective
from pipeline.tracking import TrackingConfig

LATEST = "latest"
"""The link beside the runs that points at the newest."""


class LaunchConfig(ParallelConfig):
    """Where training runs: changes the speed, never the result (outside every fingerprint)."""

    kind: Literal["single", "cpu_ranks", "ddp", "fsdp2", "deepspeed_zero2", "deepspeed_zero3", "accelerate"] = "single"
    """`single`: one process. `cpu_ranks`: several CPU processes. One process per GPU by Accelerate: `ddp` with whole
    models, `fsdp2` and `deepspeed_zero3` with weights in shards, `deepspeed_zero2` with gradients and optimizer states
    in shards, `accelerate` as your own file says."""
    processes: int = Field(default=1, ge=1)
    """Number of training processes."""
    accelerate_config: str | None = None
    """With `kind: accelerate`: a file that `accelerate config` wrote; `processes` is its num_processes."""

    @property
    def shards(self) -> int:
        """Ranks that share one copy of the model, where it is sharded."""
        return self.processes // self.replicas

    @property
    def batches(self) -> int:
        """Groups of ranks that each take rows of their own: a batch is shared out among them."""
        return self.processes // self.group

    @property
    def on_gpus(self) -> bool:
        """Whether Accelerate starts the processes."""
        return self.kind not in ("single", "cpu_ranks")

    @model_validator(mode="before")
    @classmethod
    def _processes_of_the_file(cls, values: Any) -> Any:
        """The batch is shared out among as many processes as the file starts."""
        path = values.get("accelerate_config") if isinstance(values, Mapping) else None
        if not isinstance(path, str):
            return values
        try:
            told = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
            refuse_groups_of_file(path, told.get("parallelism_config") or {})
            return {"processes": int(told["num_processes"]), **values}
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            if "processes" in values:  # then nothing of the file is needed
                return values
            raise ValueError(
                f"accelerate_config {path}: no Accelerate file with num_processes ({' '.join(str(error).split())}); "
                "make one with accelerate config --config_file PATH"
            ) from None

    @model_validator(mode="after")
    def _one_means_one(self) -> "LaunchConfig":
        if self.kind == "single" and self.processes != 1:
            raise ValueError(
                f"launch=single runs 1 process, not {self.processes}; choose launch=cpu_ranks or launch=ddp"
            )
        if (self.accelerate_config is not None) != (self.kind == "accelerate"):
            raise ValueError("launch=accelerate goes together with launch.accelerate_config=PATH")
        if self.processes % self.nodes:
            raise ValueError(f"{self.processes} processes cannot be shared by {self.nodes} nodes; make it a multiple")
        if self.replicas > 1 and self.kind != "fsdp2":
            raise ValueError(f"replicas {self.replicas} is for launch=fsdp2, not {self.kind}")
        if self.processes % self.replicas:
            raise ValueError(f"{self.processes} processes cannot hold {self.replicas} replicas; make it a multiple")
        if self.nodes > 1 and self.kind == "single":
            raise ValueError(f"launch=single runs 1 process, not on {self.nodes} nodes; choose cpu_ranks or ddp")
        if self.node_rank is not None and self.node_rank >= self.nodes:
            raise ValueError(f"node_rank {self.node_rank}: {self.nodes} nodes are numbered 0 to {self.nodes - 1}")
        if (clash := clash_of_groups(self, self.kind, self.processes)) is not None:
            raise ValueError(clash)
        return self


class RunConfig(StrictModel):
    """One run, as composed by Hydra from conf/ and the command line."""

    experiment: str | None = None
    """Name of the experiment, for the run's folder and report."""
    mode: Literal["run", "plan"] = "run"
    """`plan` shows what would run, what is cached, memory and time."""
    run: list[str] = []
    """The stages in their order; the report is always made last."""
    stages: dict[str, SerializeAsAny[StageConfig]] = {}
    """Stage name → its configuration."""
    model: ModelConfig
    """The model that the first stage starts from."""
    data: dict[str, DatasetConfig] = Field(min_length=1)
    """Data set name → where it is and how it is read."""
    launch: LaunchConfig = LaunchConfig()
    """Processes and devices of the training stages."""
    seed: int = Field(default=42, ge=0)
    """Seed of everything random in training."""
    outputs: str = Field("outputs", min_length=1)
    """The folder of artifacts and runs."""
    run_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run's folder; without it, the time and the experiment."""
    lock_wait: float = Field(default=3600.0, ge=0)
    """Seconds to wait for another run that writes the same artifact."""
    energy: EnergyConfig | None = EnergyConfig()
    """Meter what each stage draws; null: do not."""
    optimise: list[Objective] = []
    """What a sweep optimises: one objective or several."""
    budget: float | None = Field(default=None, gt=0)
    """What a run or a sweep may cost by the estimate, in the unit of `launch.price_per_gpu_hour`; more is warned of."""

    tracking: TrackingConfig = TrackingConfig()
    """Trackers of the training curves."""
    push_to_hub: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
    """Hub repository (`name` or `org/name`) that gets the last trained model, its card and the report."""

    @model_validator(mode="before")
    @classmethod
    def _choose_stage_classes(cls, values: Any) -> Any:
        """Each stage is read by the class that its `kind` names; one objective is a list of one."""
        if isinstance(values, Mapping) and isinstance(values.get("optimise"), Mapping):
            values = {**values, "optimise": [values["optimise"]]}
        if not isinstance(values, Mapping) or not isinstance(values.get("stages"), Mapping):
            return values
        stages = {name: _stage_config(name, stage) for name, stage in values["stages"].items()}
        return {**values, "stages": stages}

    @model_validator(mode="after")
    def _stages_exist(self) -> "RunConfig":
        for name in self.run:
            if name not in self.stages:
                raise ValueError(f"run: no stage '{name}' under stages:{nearest(name, self.stages)}")
        repeated = sorted({name for name in self.run if self.run.count(name) > 1})
        if repeated:
            raise ValueError(f"run: {repeated} named twice; give the second one a name of its own under stages:")
        if self.run_id == LATEST:
            raise ValueError(f"run_id: '{LATEST}' is the link to the newest run; choose another name")
        if self.budget is not None and self.launch.price_per_gpu_hour is None:
            raise ValueError("budget: needs launch.price_per_gpu_hour, without which nothing has a price")
        for name in (*self.stages, *self.data):
            if name == "base" or not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"'{name}' cannot name a stage or data set: letters, digits, - and _ only, not 'base'")
        return self


def _stage_config(name: str, stage: Any) -> StageConfig:
    """Validate one stage by its kind; its errors carry the full key."""
    if isinstance(stage, StageConfig):
        return stage
    if not isinstance(stage, Mapping):
        raise ConfigError(f"stages.{name}: {stage!r} is not a section; write stages.{name}.kind=…")
    kind = stage.get("kind")
    if not isinstance(kind, str) or kind not in STAGES:
        raise ConfigError(
            f"stages.{name}.kind: unknown stage kind {kind!r}{nearest(kind, STAGES)}; allowed: {', '.join(STAGES)}"
        )
    return validate(STAGES[kind], stage, prefix=f"stages.{name}")


def validate(model: type[Model], values: Any, prefix: str = "") -> Model:
    """Build `model` from plain values, or raise a ConfigError with one line per problem."""
    return build(model, values, prefix, ConfigError)
