"""The stub of an OpenAI-compatible server that the judge's tests use."""

from tests.eval.judge.conftest import stub  # noqa: F401
