"""The command line: compose with Hydra, pass the strict gate, hand on a typed configuration.

The only module that imports Hydra. It composes inside its own error handling, so that Hydra's refusals too are one
line and exit code 2. Sweeps (`-m`) go through `hydra.main`, job by job.
"""

import difflib
import importlib.resources
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GROUPS = ("experiment", "model", "data", "adapter", "launch")
"""The groups of conf/ that a user chooses from."""

USAGE = """\
usage: python -m pipeline +experiment=NAME [key=value ...]

  mode=plan                   what would run, what is cached, memory and time
  model=NAME|FOLDER|HUB_ID    the model to start from
  data=NAME|FILE              the rows (canonical, alpaca, messages or prompt/completion)
  stages.sft.max_steps=100    any field of a stage; a typo is answered with the nearest name
  -m key=a,b                  a sweep: one run per value
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
        lines.append(f"{group}:")
        lines += [f"  {name:<16} {told}" for name, told in options(group).items()]
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
        return [f"++{override}"]
    if key not in ("model", "data") or value in options(key) or not value or _is_sweep(value):
        return [override]
    quoted = _quote(value)
    if key == "model":
        looks_like_path = "/" in value or "." in value or Path(value).exists()
        return ["model=path", f"model.source={quoted}"] if looks_like_path else [override]
    if "/" not in value and "." not in value and not Path(value).exists():
        return [override]
    name = re.sub(r"\W+", "_", Path(value).name.split(".")[0]).strip("_") or "rows"
    return ["data=path", f"+data.{name}.source={quoted}"]


def _quote(value: str) -> str:
    """A string in Hydra's quotes, where a backslash is special only before a quote."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def _is_sweep(value: str) -> bool:
    """Whether a value is a list of choices for `-m`, all of them names in conf/."""
    return "," in value and not Path(value).exists() and "/" not in value


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain values, interpolations resolved. Raises ConfigError with one line."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from pipeline.errors import ConfigError

    expanded = [part for override in overrides for part in expand(override)]
    try:
        with initialize_config_module("conf", version_base="1.3"):
            composed = hydra_compose("config", overrides=expanded)
        OmegaConf.resolve(composed)
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            raise ConfigError(f"{missing[0]}: not set; give it on the command line ({missing[0]}=…)")
        plain = OmegaConf.to_container(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, expanded)) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _explain(error: BaseException, overrides: Sequence[str]) -> str:
    """Hydra's refusal on one line: which override, what is allowed, the nearest name."""
    text = " ".join(str(error).split())
    absent = re.search(r"Could not find '([\w.@]+)/([^']+)'", text)
    if absent:
        group, name = absent.groups()
        known = list(options(group)) if group in GROUPS else []
        return f"{group}={name}: unknown {group}{_nearest(name, known)}; allowed: {', '.join(known)}"
    if "experiment=" in text and "override" in text.lower():
        return "experiment=…: write +experiment=NAME, with a plus (`python -m pipeline` lists the names)"
    return text


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m pipeline` and of the `provetune` script."""
    from pipeline.errors import ProvetuneError

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_dispatch(arguments))
    except ProvetuneError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nstopped; the same command continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def _dispatch(arguments: list[str]) -> int:
    """Help, version, a sweep or one run."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview() if not arguments else overview())
        return 0
    if arguments[0] == "--version":
        from pipeline import __version__

        print(f"provetune {__version__}")
        return 0
    if "-m" in arguments or "--multirun" in arguments:
        return _sweep(arguments)
    unknown = [argument for argument in arguments if argument.startswith("-")]
    if unknown:
        from pipeline.errors import ConfigError

        raise ConfigError(f"{unknown[0]}: unknown option; `python -m pipeline --help` lists what there is")
    return _run(arguments)


def _run(overrides: Sequence[str]) -> int:
    """One run or plan: compose, gate, execute."""
    plain = compose(overrides)
    from pipeline.config import RunConfig, validate
    from pipeline.run import run

    return run(validate(RunConfig, plain), list(overrides))


def _sweep(arguments: list[str]) -> int:
    """A sweep through Hydra's launchers; each job composes and runs like a single run."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    compose([argument for argument in arguments if not argument.startswith("-") and not _is_choice(argument)])

    @hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")
    def job(_: DictConfig) -> int:
        return _run(list(HydraConfig.get().overrides.task))

    flags = ["-m", "hydra.job.chdir=false", "hydra.output_subdir=null", "hydra/job_logging=disabled"]
    given = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    sys.argv = [sys.argv[0], *flags, *(part for argument in given for part in expand(argument))]
    job()
    return 0


def _is_choice(override: str) -> bool:
    """Whether Hydra expands this override to several jobs, or reads it itself."""
    return "," in override or "range(" in override or "choice(" in override or override.startswith("hydra")
