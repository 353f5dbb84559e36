"""Lists of words, written as plain lines."""


def words(line: str) -> tuple[str, ...]:
    """The words of a line."""
    return tuple(line.split())
