"""What is shipped: the wheel's contents, declared dependencies, pinned versions; and that an installed wheel works."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import run_pipeline

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "conf", "data_prep", "eval")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [Requirement(line) for line in PROJECT["dependencies"]]
PINS = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the work tree with the build backend of this environment."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_what_a_run_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert str(file.relative_to(ROOT)) in names
    assert {"conf/config.yaml", "conf/experiment/smoke.yaml", "pipeline/report/templates/report.html.j2"} <= set(names)
    assert "data_prep/samples/instructions.jsonl" in names
    metadata = f"provetune-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, metadata}
    assert f"{metadata}/licenses/LICENSE" in names


def test_the_version_is_told_once() -> None:
    from pipeline import __version__

    assert __version__ == PROJECT["version"]


def third_party_imports() -> dict[str, Path]:
    """Top-level module → a file that imports it, of everything that is neither ours nor the standard library's."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules = [node.module]
                found |= {module.partition(".")[0]: file for module in modules}
    return {name: file for name, file in found.items() if name not in {*sys.stdlib_module_names, *PACKAGES}}


def test_every_import_is_declared() -> None:
    # What only an extra brings is imported when it is asked for, and its absence is a named error.
    extras = [
        Requirement(line) for name, lines in PROJECT["optional-dependencies"].items() for line in lines if name != "dev"
    ]
    declared = {canonicalize_name(requirement.name) for requirement in [*DECLARED, *extras]}
    distributions = packages_distributions()
    imports = third_party_imports()
    assert {"torch", "hydra", "yaml"} <= set(imports)
    for module, file in imports.items():
        # An extra need not be installed; then its module is named like its package.
        owners = {canonicalize_name(name) for name in distributions.get(module, [module])}
        assert owners & declared, f"{file.relative_to(ROOT)} imports {module}, which pyproject.toml does not declare"


def test_constraints_are_versions_only() -> None:
    for line in PINS:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+-]+", line), f"constraints.txt: {line}"
    assert "torch==2.13.0" in PINS


def test_constraints_hold_every_dependency_within_its_bounds() -> None:
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in PINS)}
    extras = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for requirement in [*DECLARED, *extras]:
        if requirement.name == PROJECT["name"]:
            continue
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name}: not in constraints.txt"
        assert version in requirement.specifier, f"{requirement}: constraints.txt has {version}"


# Nothing of the environment of these tests may help the installed wheel.
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a fresh environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    # torch is pinned in the same command: a newer build would bring gigabytes of CUDA libraries.
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["-c", str(ROOT / "constraints.txt"), "torch==2.13.0", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False, env=CLEAN)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


def call(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=CLEAN)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_the_installed_wheel_runs_from_any_folder(installed: Path, tmp_path: Path) -> None:
    done = call(tmp_path, installed / "python", "-m", "pipeline", "+experiment=smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "outputs" / "runs" / "latest" / "report.html").stat().st_size > 50_000
    where = call(tmp_path, installed / "python", "-c", "import pipeline; print(pipeline.__file__)")
    assert str(installed.parent) in where.stdout and str(ROOT) not in where.stdout
    again = call(tmp_path, installed / "provetune", "+experiment=smoke")
    assert again.returncode == 0 and " ran " not in again.stdout, again.stdout + again.stderr
    assert call(tmp_path, installed / "provetune", "--version").stdout == f"provetune {PROJECT['version']}\n"


@pytest.mark.slow
def test_the_installed_wheel_has_consistent_dependencies(installed: Path, tmp_path: Path) -> None:
    done = call(tmp_path, installed / "python", "-m", "pip", "check")
    assert done.returncode == 0, done.stdout


def test_a_conf_folder_of_the_user_does_not_disturb(tmp_path: Path) -> None:
    """Many projects have a `conf/` of their own; without an `__init__.py` ours is found behind it."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("nothing: ours\n", encoding="utf-8")
    done = call(tmp_path, sys.executable, "-m", "pipeline", "+experiment=smoke", "mode=plan")
    assert done.returncode == 0 and "sft/train" in done.stdout, done.stderr


@pytest.mark.end_to_end
def test_names_of_the_users_own_do_not_stand_in_for_ours(tmp_path: Path) -> None:
    """A package `conf`, a module `eval.py` and a module `pipeline.py`-like neighbour in the current folder."""
    (tmp_path / "conf").mkdir()
    for name in ("conf/__init__.py", "eval.py", "data_prep.py"):
        (tmp_path / name).write_text("raise ImportError('the user own module')\n", encoding="utf-8")
    done = run_pipeline(tmp_path / "outputs", "+experiment=smoke", "run=[filter]", cwd=tmp_path)
    assert done.code == 0, done.err
