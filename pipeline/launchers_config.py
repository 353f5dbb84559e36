"""Where the jobs of a sweep run: the settings of `hydra/launcher=NAME`. Imports only pydantic."""

from typing import Literal

from pydantic import Field

from data_prep.strict import StrictModel


class Basic(StrictModel):
    """One job after the other, in this process."""

    kind: Literal["basic"]
    """`basic`."""


class Joblib(StrictModel):
    """Several jobs at a time on this machine."""

    kind: Literal["joblib"]
    """`joblib`."""
    jobs: int | None = Field(default=None, ge=1)
    """Jobs at a time; without it, one per core, or per group of `launch.processes` GPUs."""


class Ray(StrictModel):
    """Tasks of a Ray cluster."""

    kind: Literal["ray"]
    """`ray`."""
    address: str | None = None
    """`auto`, or `ray://HOST:10001`; without it, a cluster on this machine for the time of the sweep."""
    cpus: float = Field(default=1.0, gt=0)
    """Processor cores that a job reserves."""


class Local(StrictModel):
    """Processes of submitit's on this machine."""

    kind: Literal["local"]
    """`local`."""
    jobs: int | None = Field(default=None, ge=1)
    """Jobs at a time; without it, one per core, or per group of `launch.processes` GPUs."""
    timeout_min: int = Field(default=60 * 24, ge=1)
    """Minutes after which a job is ended."""


class Slurm(StrictModel):
    """Allocations of a Slurm cluster. Nodes and GPUs of a job follow from `launch`."""

    kind: Literal["slurm"]
    """`slurm`."""
    partition: str | None = None
    """Partition; without it, the cluster's default."""
    account: str | None = None
    """Account that pays."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that a node must have."""
    timeout_min: int = Field(default=60 * 24, ge=1)
    """Time limit of a job in minutes."""
    cpus_per_task: int = Field(default=1, ge=1)
    """Cores per node."""
    mem_gb: float | None = Field(default=None, gt=0)
    """Memory per node in GB."""
    jobs: int = Field(default=256, ge=1)
    """Jobs at a time."""
    signal_delay_s: int = Field(default=120, ge=1)
    """Seconds before the time limit at which a job writes a checkpoint and is put back into the queue."""
    max_timeouts: int = Field(default=10, ge=0)
    """How often a job that reached its time limit is put back."""
    setup: list[str] = []
    """Shell lines before the job starts (`module load …`)."""
    additional_parameters: dict[str, str | int | float | bool] = {}
    """Any other option of sbatch."""


LAUNCHERS: dict[str, type[StrictModel]] = {
    "basic": Basic,
    "joblib": Joblib,
    "local": Local,
    "slurm": Slurm,
    "ray": Ray,
}
"""Kind → its settings."""
