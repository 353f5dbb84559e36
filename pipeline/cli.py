"""The command line: compose with Hydra, pass the strict gate, hand on a typed configuration.

Only this module and pipeline/sweep.py, which lays out the jobs of `-m`, import Hydra. It composes inside its own error
handling, so that Hydra's refusals too are one line and exit code 2.
"""

import difflib
import errno
import importlib.resources
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.errors import ProvetuneError

GROUPS = (
    "experiment",
    "model",
    "model/scratch",
    "model/ablation",
    "data",
    "adapter",
    "benchmark",
    "judge",
    "decoding",
    "launch",
    "hydra/launcher",
    "hydra/sweeper",
)
"""The groups of conf/ that a user chooses from."""

USAGE = """\
usage: python -m pipeline +experiment=NAME [key=value ...]

  mode=plan                   what would run, what is cached, memory and time
  model=NAME|FOLDER|HUB_ID    the model to start from (scratch/NAME: from nothing)
  data=NAME|FILE              the rows (canonical, alpaca, messages or prompt/completion)
  stages.sft.max_steps=100    any field of a stage; a typo is answered with the nearest name
  -m key=a,b                  a sweep: one run per value; hydra/launcher=NAME says where its jobs run
  --help, --version           this text; the version
"""


def options(group: str) -> dict[str, str]:
    """The names in a group of conf/, each with what its file says of itself."""
    folder = importlib.resources.files("conf") / group
    found = {}
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            comments = [line[1:].strip() for line in file.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
            told = [line for line in comments if not line.startswith(("python -m", "@package"))]
            found[file.name.removesuffix(".yaml")] = told[0] if told else comments[0]
    return found


def overview() -> str:
    """What can be run, and how."""
    lines = [USAGE]
    for group in GROUPS:
        lines += [f"{group}:", *(f"  {name:<16} {told}" for name, told in options(group).items())]
    lines.append("\nStart with: python -m pipeline +experiment=smoke")
    return "\n".join(lines)


def expand(override: str) -> list[str]:
    """An override as Hydra needs it.

    A plain `key=value` becomes `++key=value`, because YAML names only what differs from the schema: the strict gate
    judges unknown keys, with better words than Hydra. `model=FOLDER_OR_HUB_ID` and `data=FILE` become the keys that
    hold them.
    """
    key, sign, value = override.partition("=")
    if not sign or not key or key[0] in "+~" or key.startswith("hydra") or "@" in key:
        return [override]
    if key not in GROUPS:
        return [f"++{key}={_readable(value)}"]
    if key not in ("model", "data") or not value or _is_named(key, value) or _is_sweep(value):
        return [override]
    quoted = _quote(value)
    if key == "model":
        looks_like_path = "/" in value or "." in value or Path(value).exists()
        return ["model=path", f"model.source={quoted}"] if looks_like_path else [override]
    if "/" not in value and "." not in value and not Path(value).exists():
        return [override]
    name = re.sub(r"[^A-Za-z0-9]+", "_", Path(value).name.split(".")[0]).strip("_") or "rows"
    name = f"rows_{name}" if name[0].isdigit() or name == "base" else name  # what Hydra and the gate take for a name
    return ["data=path", f"+data.{name}.source={quoted}"]


def _readable(value: str) -> str:
    """The value, in quotes where Hydra's grammar cannot read it: the path of a folder may hold any character."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if not value or value[0] in "[{'\"":
        return value
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return _quote(value)
    return value


def _quote(value: str) -> str:
    """A string in Hydra's quotes, where a backslash is special only before a quote."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def _is_named(group: str, value: str) -> bool:
    """Whether a value, or each choice of it, is a file in a group of conf/, also in a folder there."""
    return all((importlib.resources.files("conf") / group / f"{name}.yaml").is_file() for name in value.split(","))


def _is_sweep(value: str) -> bool:
    """Whether a value is a list of choices for `-m`, all of them names in conf/."""
    return "," in value and not Path(value).exists() and "/" not in value


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain values, interpolations resolved. Raises ConfigError with one line."""
    return plain_values(compose_open(overrides))


def compose_open(overrides: Sequence[str], with_hydra: bool = False) -> "DictConfig":
    """What Hydra composes (also its own settings when asked), interpolations open. Raises ConfigError with one line."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from pipeline.errors import ConfigError

    refuse_malformed(overrides)
    expanded = [part for override in overrides for part in expand(override)]
    try:
        with initialize_config_module("conf", version_base="1.3"):
            return hydra_compose("config", overrides=expanded, return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: a group set to a number
        raise ConfigError(explain(error)) from None


def plain_values(composed: "DictConfig") -> dict[str, Any]:
    """What Hydra composed, as plain values, interpolations resolved. Raises ConfigError with one line."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from pipeline.errors import ConfigError

    try:
        OmegaConf.resolve(composed)
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            raise ConfigError(f"{missing[0]}: not set; give it on the command line ({missing[0]}=…)")
        plain = OmegaConf.to_container(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def explain(error: BaseException) -> str:
    """Hydra's refusal on one line: which override, what is allowed, the nearest name."""
    text = " ".join(str(error).split())
    absent = re.search(r"Could not find '([\w.@]+)/([^']*)'", text)
    if absent:
        group, name = absent.groups()
        known = list(options(group)) if group in GROUPS else []
        return f"{group}={name}: unknown {group}{nearest(name, known)}; allowed: {', '.join(known)}"
    if "experiment=" in text and "override" in text.lower():
        return "experiment=…: write +experiment=NAME, with a plus (`python -m pipeline` lists the names)"
    return text


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?`, or nothing when no name is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m pipeline` and of the `provetune` script."""
    from pipeline.errors import ProvetuneError, printable

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_dispatch(arguments))
    except ProvetuneError as error:
        sys.exit(tell(error))
    except KeyboardInterrupt:
        print("\nstopped; the same command continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        full = "no space left on the disk" if error.errno == errno.ENOSPC else None
        what = printable(f"{error.filename or 'outputs'}: {full or error.strerror or error}")
        print(f"error: {what}; check the place and its rights, or set outputs=FOLDER", file=sys.stderr)
        sys.exit(4)


def tell(error: "ProvetuneError") -> int:
    """Print an error, a line per problem; its exit code."""
    from pipeline.errors import printable

    for line in str(error).splitlines():
        print(f"error: {printable(line)}", file=sys.stderr)
    return error.exit_code


def _dispatch(arguments: list[str]) -> int:
    """Help, version, a sweep or one run."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(overview())
        return 0
    if "--version" in arguments:
        from pipeline import __version__

        print(f"provetune {__version__}")
        return 0
    if "-m" in arguments or "--multirun" in arguments:
        from pipeline.sweep import sweep

        given = [argument for argument in arguments if argument not in ("-m", "--multirun")]
        _refuse_options(given)
        return sweep(given)
    _refuse_options(arguments)
    _refuse_launchers(arguments)
    return _run(arguments)


def refuse_malformed(overrides: Sequence[str]) -> None:
    """Hydra's grammar would answer these with its own names for symbols."""
    from pipeline.errors import ConfigError

    for override in overrides:
        if not re.match(r"~?\+{0,2}[^=+~\s]", override) or ("=" not in override and not override.startswith("~")):
            raise ConfigError(
                f"'{override}': not of the form key=value; `python -m pipeline --help` lists what there is"
            )


def _refuse_options(arguments: Sequence[str]) -> None:
    """There are no options beside those that were handled before."""
    from pipeline.errors import ConfigError

    for argument in arguments:
        if argument.startswith("-"):
            raise ConfigError(f"{argument}: unknown option; `python -m pipeline --help` lists what there is")


def _refuse_launchers(arguments: Sequence[str]) -> None:
    """Hydra would ignore a launcher without `-m`, and train on the login node what was meant for the cluster."""
    from pipeline.errors import ConfigError

    for argument in arguments:
        if argument.lstrip("+").startswith(("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper")):
            raise ConfigError(f"{argument}: only a sweep has a launcher; add -m (also for a single job)")


def _run(overrides: Sequence[str]) -> int:
    """One run or plan: compose, gate, execute."""
    from pipeline.config import RunConfig, validate
    from pipeline.errors import Preempted
    from pipeline.run import run

    config = validate(RunConfig, compose(overrides))
    try:
        return run(config, list(overrides))
    except Preempted:
        from pipeline.slurm import requeue_own_allocation

        if told := requeue_own_allocation():
            print(told, file=sys.stderr)
        raise
