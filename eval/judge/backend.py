"""What every judge can do, wherever it runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from eval.judge.config import JudgeConfig, LocalJudge, ServerJudge
from eval.judge.family import ModelIdentity
from eval.judge.prompts import Question
from eval.judge.replies import Reply


class Backend(Protocol):
    """A judge that answers questions."""

    @property
    def name(self) -> str:
        """How the report calls it."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that its verdicts depend on but the question: JSON values, part of the cache's key."""
        ...

    @property
    def model(self) -> ModelIdentity:
        """What its family is told from."""
        ...

    @property
    def label_only(self) -> bool:
        """Whether it is asked for a bare label."""
        ...

    def ask(self, config: JudgeConfig, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """The index of each question with its reply, as they come; every question is answered, if by a failure.

        Raises DataError when the judge cannot judge at all.
        """
        ...


def backend_of(judge: LocalJudge | ServerJudge) -> Backend:
    """The judge of a configuration. Nothing is loaded and no server is called before it is asked."""
    if isinstance(judge, LocalJudge):
        from eval.judge.local import LocalBackend

        return LocalBackend(judge)
    from eval.judge.server import ServerBackend

    return ServerBackend(judge)
