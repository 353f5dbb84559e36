"""The judge's settings: what is refused, and that keys have no place in them."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from data_prep.errors import DataError
from data_prep.gate import build
from eval.judge.config import JudgeConfig, LocalJudge, ServerJudge

URL = "http://localhost:8000/v1"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_url": "localhost:8000"}, "is no address of a server; write http://HOST:PORT/v1"),
        ({"base_url": "ftp://a/b"}, "is no address of a server"),
        ({"base_url": "http://me:hunter2@host/v1"}, "holds a user name, password or query"),
        ({"base_url": "http://host/v1?api_key=hunter2"}, "holds a user name, password or query"),
        ({"api_key_env": "sk-hunter2"}, "never write the key itself here"),
        (
            {"api_key": "sk-hunter2"},
            "api_key: a key has no place here; export it, and name its variable in api_key_env",
        ),
        ({"base_url": "me:hunter2@host/v1"}, "it is no address of a server"),
        ({"retries": -1}, "retries"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"requests_per_minute": 0.0}, "requests_per_minute"),
        ({"temprature": 0.0}, "temprature"),
    ],
)
def test_servers_that_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as found:
        ServerJudge(**{"base_url": URL, "model": "m", **fields})
    assert "hunter2" not in str(found.value)


def test_the_gate_never_shows_a_key() -> None:
    server = {"kind": "server", "base_url": URL, "model": "m"}
    for wrong in ({"api_key": "sk-hunter2"}, {"api_key_env": "sk-hunter2"}, {"base_url": "http://a:hunter2@b/v1"}):
        with pytest.raises(DataError) as found:
            build(JudgeConfig, {"judges": [{**server, **wrong}]}, "judge", DataError)
        assert "hunter2" not in str(found.value) and str(found.value).startswith("judge.judges.0")


def test_judges_are_told_apart_by_their_kind() -> None:
    config = JudgeConfig.model_validate(
        {"judges": [{"kind": "local", "model": "a"}, {"kind": "server", "model": "b", "base_url": URL + "/"}]}
    )
    assert isinstance(config.judges[0], LocalJudge) and isinstance(config.judges[1], ServerJudge)
    assert config.judges[1].base_url == URL


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"judges": []}, "judges"),
        ({"judges": [{"kind": "remote", "model": "a"}]}, "kind"),
        ({"judges": [{"kind": "local", "model": "a"}] * 2}, "there twice"),
        ({"scale": 1}, "scale"),
        ({"scale": 11}, "scale"),
        ({"length_penalty": 0.0}, "length_penalty"),
        ({"rubric": ""}, "rubric"),
        ({"kind": "listwise"}, "kind"),
        ({"vote": "any"}, "vote"),
    ],
)
def test_comparisons_that_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JudgeConfig.model_validate({"judges": [{"kind": "local", "model": "a"}], **fields})


def test_every_field_is_documented() -> None:
    for kind in (JudgeConfig, LocalJudge, ServerJudge):
        assert all(field.description for field in kind.model_fields.values())


def test_the_configuration_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'openai', 'scipy', 'httpx2', 'jinja2'}"
    program = f"import sys, eval.judge.config; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_judging_by_a_server_never_imports_torch() -> None:
    program = "import sys, eval.judge.run, eval.judge.server; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
