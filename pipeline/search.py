"""A search: Optuna asks for trials, a launcher runs them as jobs of a sweep, and their numbers are told to it.

    outputs/sweeps/<id>/study.log     every trial, as Optuna's journal: the same command goes on where it ended

A thin use of ask and tell: Hydra's plugin for Optuna needs an Optuna that excludes today's, hides its trials from the
jobs, and ends with the first failure. Trials are asked for in groups, each with a seed of its own, so that a search
that was killed and continued makes the same choices as one that was not. Never imports Hydra.
"""

import contextlib
import fcntl
import importlib.util
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.pruning import read_losses
from pipeline.search_config import Optuna
from pipeline.sweep_jobs import Job, Outcome, outcome_of

if TYPE_CHECKING:
    import optuna

TABLE = "validation"
STUDY = "study.log"


@dataclass(frozen=True)
class Dimension:
    """One override that the search chooses."""

    key: str
    choices: tuple[str, ...] | None = None
    """Values as the user wrote them; None for an interval."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def distribution(self) -> Any:
        """In Optuna's words."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def example(self) -> str:
        """An override with a value that the search may choose; no whole number, which a whole field would take."""
        if self.choices is not None:
            return f"{self.key}={self.choices[0]}"
        return f"{self.key}={int(self.low) if self.whole else self.low + 0.37 * (self.high - self.low)}"


def refuse_unfit(sweeper: Optuna, dimensions: Sequence[Dimension], config: RunConfig) -> None:
    """Raise ConfigError for a search that could not choose, learn or prune."""
    name = "hydra/sweeper=optuna"
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(f"{name}: needs optuna; pip install 'provetune[optuna]'")
    if not dimensions:
        raise ConfigError(f"{name}: nothing to choose; give a key=interval(low,high) or key=a,b")
    if not config.optimise:
        raise ConfigError(f"{name}: nothing to learn from; set optimise={{metric: …, direction: minimize}}")
    for dimension in dimensions:
        if dimension.choices is None and (dimension.low > dimension.high or (dimension.log and dimension.low <= 0)):
            raise ConfigError(
                f"{dimension.key}=interval({dimension.low:g},{dimension.high:g}): "
                "the first bound must be below the second, and with tag(log, …) above 0"
            )
    validated = [getattr(config.stages[stage], "validate_every", None) for stage in config.run]
    if sweeper.prune is not None and not any(validated):
        raise ConfigError("hydra.sweeper.prune: no stage of the run has validate_every; set it, or prune=null")


@dataclass(frozen=True)
class Search:
    """A search in its folder."""

    sweeper: Optuna
    dimensions: Sequence[Dimension]
    directions: Sequence[Literal["minimize", "maximize"]]
    folder: Path
    make_job: Callable[[int, list[str], dict[str, Any] | None], Job]
    """Trial number, chosen overrides and pruning rule → job."""
    run: Callable[[list[Job]], Iterator[Outcome]]
    """Runs jobs on the launcher."""
    at_once: int

    def go(self) -> Generator[Outcome, None, None]:
        """Run what is missing; yields each trial as it ends."""
        with self._alone():
            study = self._study()
            asked_for = 0
            while (group := self._next_group(study, asked_for)) is not None:
                asked_for += self.at_once
                jobs = [self.make_job(number, chosen, self._rule(number)) for number, chosen in group]
                for outcome in self.run(jobs):
                    yield outcome
                    if outcome.status == "stopped":
                        return
                    self._tell(study, outcome)

    def trials(self) -> list[Job]:
        """Every trial that was ever asked for."""
        return [self.make_job(trial.number, self._overrides(trial), None) for trial in self._study().trials]

    def front(self) -> list[int]:
        """The best trials: one, or with several objectives those that no other beats in all of them."""
        from optuna.trial import TrialState

        study = self._study()
        if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
            return []
        return sorted(trial.number for trial in study.best_trials)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two commands that continue one search would run its trials twice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "search.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"{self.folder}: another process runs this search; wait for its end") from None
            yield

    def _study(self) -> "optuna.Study":
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(self.folder / STUDY)))
        return optuna.create_study(
            storage=storage, study_name="search", directions=list(self.directions), load_if_exists=True
        )

    def _next_group(self, study: "optuna.Study", asked_for: int) -> list[tuple[int, list[str]]] | None:
        """Trials that a killed search left, and new ones up to a full group; None at the end.

        Failed trials are made up for by others, but a command asks for no more than `trials`: it must end.
        """
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        ended_well = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        left = [trial for trial in trials if trial.state == TrialState.RUNNING]
        missing = self.sweeper.trials - ended_well - len(left)
        new = min(missing, self.at_once - len(trials) % self.at_once) if asked_for < self.sweeper.trials else 0
        distributions = {dimension.key: dimension.distribution() for dimension in self.dimensions}
        for number in range(len(trials), len(trials) + max(0, new)):
            study.sampler = self._sampler(number)
            study.ask(distributions)
        group = [
            (trial.number, self._overrides(trial))
            for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        ]
        return group or None

    def _sampler(self, number: int) -> Any:
        from optuna.samplers import RandomSampler, TPESampler

        seed = 1_000_003 * self.sweeper.seed + number
        if self.sweeper.sampler == "random":
            return RandomSampler(seed=seed % 2**32)
        return TPESampler(seed=seed % 2**32, n_startup_trials=self.sweeper.startup)

    def _overrides(self, trial: Any) -> list[str]:
        return [f"{dimension.key}={trial.params[dimension.key]}" for dimension in self.dimensions]

    def _rule(self, number: int) -> dict[str, Any] | None:
        if self.sweeper.prune is None:
            return None
        values = {"after": self.sweeper.prune_after, "start": self.sweeper.prune_from}
        return {"folder": str((self.folder / TABLE).absolute()), "trial": number, **values}

    def _tell(self, study: "optuna.Study", outcome: Outcome) -> None:
        """The sampler learns from pruned trials too, where one number is optimised; failed ones teach it nothing."""
        from optuna.trial import Trial, TrialState

        if outcome.values:
            study.tell(outcome.number, outcome.values)
        elif outcome.status == "pruned" and len(self.directions) == 1:
            trial = Trial(study, study.get_trials(deepcopy=False)[outcome.number]._trial_id)
            for file in sorted((self.folder / TABLE).glob(f"*-{outcome.number}.jsonl"))[-1:]:
                for step, loss in read_losses(file).items():
                    trial.report(loss, step)
            study.tell(outcome.number, state=TrialState.PRUNED)
        else:
            pruned = outcome.status == "pruned"
            study.tell(outcome.number, state=TrialState.PRUNED if pruned else TrialState.FAIL)


def ended_before(jobs: Sequence[Job], now: Sequence[Outcome]) -> list[Outcome]:
    """How the trials of earlier commands ended."""
    known = {outcome.number for outcome in now}
    return [outcome for job in jobs if job.number not in known and (outcome := outcome_of(job)) is not None]


def group_size(sweeper: Optuna, launcher: Any) -> int:
    """Trials at a time."""
    return sweeper.at_once or getattr(launcher, "jobs", None) or 1
