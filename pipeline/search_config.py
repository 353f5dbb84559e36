"""How a search chooses its trials: the settings of `hydra/sweeper=optuna`. Imports only pydantic."""

from typing import Literal

from pydantic import Field

from data_prep.strict import StrictModel


class Optuna(StrictModel):
    """A search by Optuna's samplers instead of a grid."""

    kind: Literal["optuna"]
    """`optuna`."""
    trials: int = Field(default=20, ge=1)
    """Trials that shall end well or be pruned; a larger number continues the same search."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: tree-structured Parzen estimators, also for several objectives; `random`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler."""
    startup: int = Field(default=10, ge=1)
    """Trials at random before the sampler learns from them."""
    at_once: int | None = Field(default=None, ge=1)
    """Trials that are chosen and run together; without it, `hydra.launcher.jobs`, or one."""
    prune: Literal["median"] | None = "median"
    """`median`: a training whose best validation loss so far is above the median of the others at that step ends."""
    prune_after: int = Field(default=5, ge=1)
    """Other trials that must have come to a step before one is pruned there."""
    prune_from: int = Field(default=0, ge=0)
    """Step before which no trial is pruned."""


SWEEPERS = {"optuna": Optuna}
"""Kind → its settings."""
