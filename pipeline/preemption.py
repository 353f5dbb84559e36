"""Stub."""


def ask_and_wait() -> None:
    """Stub."""
