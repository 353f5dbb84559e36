"""The errors a user can meet; each is one line that names the thing, what is allowed and the next step."""


def printable(text: str) -> str:
    """Text with its control characters spelt out: a path or a row must not steer the terminal it is shown on."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class ProvetuneError(Exception):
    """A foreseen failure: printed as one line, with `exit_code`; a traceback goes to the log only."""

    exit_code = 4


class ConfigError(ProvetuneError):
    """The configuration asks for something that does not exist or cannot be (exit code 2)."""

    exit_code = 2


class DataFault(ProvetuneError):
    """The data cannot be used as asked (exit code 3); raised in the parent for a `DataError` of a stage."""

    exit_code = 3


class StageFailed(ProvetuneError):
    """A stage stopped before its end (exit code 4)."""


class LockHeld(StageFailed):
    """Another run is writing the same artifact and did not finish within the time to wait."""


class Preempted(ProvetuneError):
    """A signal asked the run to stop; its work is kept, and the same command continues (exit code 75, EX_TEMPFAIL)."""

    exit_code = 75


class Pruned(ProvetuneError):
    """A trial of a search ended early, because others are better; no failure (a worker ends with code 76)."""

    exit_code = 76
