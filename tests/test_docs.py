"""The documentation tells the truth: links lead somewhere, commands run, recipes work, generated pages are current."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli import GROUPS, compose, options
from pipeline.config import RunConfig, validate
from pipeline.plan import make_plan
from pipeline.reference import reference, slug
from pipeline.sweep import choices as sweep_choices
from tests.conftest import Finished

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [page for page in PAGES if page.name != "CONTRIBUTING.md"]
"""Their commands need nothing but an installed Provetune; a recipe's commands need the recipe."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PLACE = re.compile(r"# (\S+?)(?:, after: (.+))?$")

ROWS = "".join(f'{{"prompt": "How much is {n} and one?", "completion": "It is {n + 1}."}}\n' for n in range(80))
QUESTIONS = "question,answer\n" + "".join(f"How much is {n} and one?,It is {n + 1}.\n" for n in range(80))
PAIR = '{{"prompt": "How much is {0} and one?", "chosen": "It is {1}.", "rejected": "{0}"}}\n'
PAIRS = "".join(PAIR.format(n, n + 1) for n in range(80))
FILES = {"my.jsonl": ROWS, "questions.csv": QUESTIONS, "pairs.jsonl": PAIRS}
"""The files of a user that the documents speak of."""

SMALL = ("stages.sft.max_steps=2", "stages.evaluate.generation.max_rows=4", "stages.evaluate.statistics.resamples=200")


@dataclass(frozen=True)
class Block:
    """One fenced block, with the heading it stands under."""

    page: Path
    heading: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    content = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(content):
        headings = re.findall(r"^#+ (.+)$", FENCE.sub("", content[: match.start()]), re.MULTILINE)
        found.append(Block(page, headings[-1] if headings else "", match[1], match[2]))
    return found


def commands(block: Block) -> list[list[str]]:
    """The `python -m …` lines of a shell block, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []
    return [shlex.split(line, comments=True) for line in lines if line.startswith("python -m ")]


DOCUMENTED = sorted({tuple(command) for page in GUIDES for block in blocks(page) for command in commands(block)})
RUNS = [command for command in DOCUMENTED if command[2] == "pipeline" and len(command) > 3]
EXECUTED = [command for command in RUNS if {"+experiment=smoke", "+experiment=lora_llama"} & set(command)]
"""The others train for minutes: they are planned, and whoever wrote their experiment has run it."""
QUICK = [
    command for command in EXECUTED if len(command) < 6 or "mode=plan" in command or "data=questions.csv" in command
]
"""Of these, the ones that every run of the tests executes."""


def anchors(page: Path) -> set[str]:
    content = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {slug(heading.replace("`", "")) for heading in re.findall(r"^#+ (.+)$", content, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_is_dead(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}; {file.name} has no such heading"


def test_the_configuration_page_is_current() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m pipeline.reference > docs/configuration.md"


def test_the_configuration_page_names_every_field() -> None:
    page = reference()
    for name, info in RunConfig.model_fields.items():
        assert f"| `{name}`" in page and info.description in page
    assert "| `learning_rate` | number, > 0 | `0.0002` | Peak learning rate of the optimizer. |" in page
    assert "| `micro_batch_size` † | integer or null, ≥ 1 | `null` |" in page
    assert "| `from` | text or null |" in page


def test_documented_make_targets_exist() -> None:
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set()
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        named |= set(re.findall(r"`make ([\w-]+)`", content))
        named |= {
            target for block in blocks(page) for target in re.findall(r"^make ([\w-]+)", block.text, re.MULTILINE)
        }
    assert {"run", "test"} <= named <= made


def test_every_module_is_on_the_map() -> None:
    map_ = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Checks")[0]
    for file in [*(ROOT / "pipeline").glob("*.py"), *(ROOT / "pipeline").glob("*/__init__.py")]:
        name = f"pipeline/{file.parent.name}/" if file.name == "__init__.py" else file.name
        if file.parent == ROOT / "pipeline" and file.name in ("__init__.py", "__main__.py"):
            continue
        assert name in map_, f"CONTRIBUTING.md does not say what {name} is for"


def test_every_file_of_conf_is_on_the_list() -> None:
    files = {file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.yaml")}
    listed = {Path(group) / f"{name}.yaml" for group in GROUPS for name in options(group)}
    assert files - {Path("config.yaml")} == listed


def test_every_documented_module_is_there() -> None:
    modules = {command[2] for command in DOCUMENTED}
    assert {"pipeline", "pipeline.report"} <= modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the documents speak of."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def first_choices(command: tuple[str, ...]) -> list[str]:
    """The overrides of a documented command; of a sweep, those of its first run."""
    return [sweep_choices(part)[0] for part in command[3:] if part != "-m"]


@pytest.mark.parametrize("command", RUNS, ids=" ".join)
def test_documented_commands_pass_the_gate(command: tuple[str, ...], user_folder: Path) -> None:
    config = validate(RunConfig, compose(first_choices(command)))
    for stage in config.stages.values():
        assert getattr(stage, "batch_size", 0) % config.launch.processes == 0


@pytest.mark.parametrize("command", sorted(set(RUNS) - set(EXECUTED)), ids=" ".join)
def test_documented_commands_can_be_planned(command: tuple[str, ...], user_folder: Path) -> None:
    kept = [part for part in first_choices(command) if not part.startswith("model=") or "scratch/" in part]
    config = validate(RunConfig, compose([*kept, f"outputs={user_folder / 'outputs'}"]))
    assert make_plan(config)


def stand_in(command: tuple[str, ...], model: Path) -> list[str]:
    """A documented command with a tiny model, few steps and no GPU."""
    gpus = ("model=", "launch=ddp", "launch=fsdp2", "launch.processes=8")
    kept = [part for part in command[3:] if not part.startswith(gpus)]
    if "+experiment=smoke" in command:
        return [*kept, *SMALL]
    data = [] if any(part.startswith("data=") for part in kept) else ["data=my.jsonl"]
    kept = [part for part in kept if not part.startswith("stages.sft.max_steps")]
    return [*kept, *data, f"model={model}", "stages.sft.warmup_steps=0", *SMALL]


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "command",
    [pytest.param(command, marks=() if command in QUICK else pytest.mark.slow) for command in EXECUTED],
    ids=" ".join,
)
def test_documented_commands_run(command: tuple[str, ...], user_folder: Path, smoke: Finished, copied: Path) -> None:
    overrides = stand_in(command, smoke.artifact("model") / "model")
    done = run_module(user_folder, "pipeline", *overrides, f"outputs={copied}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("(estimates)" if "mode=plan" in command else "Report  ") in done.stdout


@pytest.mark.end_to_end
def test_the_documented_report_command_runs(copied: Path) -> None:
    assert ("python", "-m", "pipeline.report", "outputs/runs/latest") in DOCUMENTED
    done = run_module(ROOT, "pipeline.report", str(copied / "runs" / "latest"))
    assert done.returncode == 0 and "report.html" in done.stdout, done.stderr


def run_module(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def message_clauses() -> set[str]:
    """The clauses (between semicolons) of every text in the code, with a NUL for each value that is filled in."""
    found: set[str] = set()
    for package in ("pipeline", "data_prep", "eval"):
        for file in (ROOT / package).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
            joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
            inside = {id(part) for text in joined for part in text.values}
            found |= {"".join(map(_fixed, text.values)) for text in joined}
            found |= {_fixed(node) for node in nodes if isinstance(node, ast.Constant) and id(node) not in inside}
    clauses = {clause.strip() for text in found for clause in text.split(";")}
    return {clause for clause in clauses if " " in clause and len(re.findall("[a-z]", clause)) >= 6}


def _fixed(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "\0"


def is_said(clause: str, told: set[str]) -> bool:
    """Whether a clause of a message is one of the code's with values filled in, or (with …) a part of one."""
    shortened = re.escape(clause).replace("…", ".*") if "…" in clause else None
    return any(
        re.search(re.escape(text).replace("\0", ".*"), clause) or (shortened and re.search(shortened, text))
        for text in told
    )


@pytest.mark.end_to_end
def test_the_messages_explained_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    told = message_clauses()
    assert len(messages) > 20
    unsaid = [clause for message in messages for clause in message.split("; ") if not is_said(clause, told)]
    assert not unsaid, f"no code says: {unsaid}"


RECIPES = [
    heading
    for heading in re.findall(r"^## (Add .+)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
]


def apply(block: Block, tree: Path) -> None:
    """Write the block's file, or insert the block after the line that holds the text named in its first line."""
    first, _, body = block.text.partition("\n")
    place = PLACE.fullmatch(first)
    assert place, f"{block.heading}: the block does not say where it belongs: {first}"
    file = tree / place[1]
    if place[2] is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body, encoding="utf-8")
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    matches = [number for number, line in enumerate(lines) if place[2] in line]
    assert matches, f"{block.heading}: {place[1]} has no line with {place[2]!r}"
    lines.insert(matches[0] + 1, body)
    file.write_text("".join(lines), encoding="utf-8")


def test_there_are_recipes() -> None:
    assert {"Add a stage", "Add a model", "Add a data format", "Add a metric"} <= set(RECIPES)


@pytest.mark.end_to_end
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipe_works(recipe: str, tmp_path: Path) -> None:
    for package in ("pipeline", "data_prep", "eval", "conf"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    own = [block for block in blocks(ROOT / "CONTRIBUTING.md") if block.heading == recipe]
    for block in own:
        if block.language in ("python", "yaml"):
            apply(block, tmp_path)
    todo = [command for block in own for command in commands(block)]
    assert todo
    for command in todo:
        done = run_module(tmp_path, *command[2:])
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(EXPECTED[recipe], done.stdout), done.stdout


EXPECTED = {
    "Add a stage": r"count +ran .* rows [1-9]\d+",
    "Add a model": r"model +\w+ +new",
    "Add a data set": "rows 150",
    "Add a data format": r"filter +ran .*rows_kept 80",
    "Add a filter step": r"filter +ran .*rows_kept 2\d\d",
    "Add a metric": r"shouting/sample\s+shouting +\d",
}
"""What the recipe's command must print, as a pattern: the new thing at work."""
