"""`python -m pipeline.export RUN bundle.zip`: what a reviewer needs to check a run without its model.

The bundle holds report, manifest, configuration, predictions, ledger, losses and audits, laid out as in the outputs
folder. Training rows stay at home, and so do weights unless `--weights` asks for them; `bundle.json` lists what stayed
with its hash. The same run gives the same bytes.
"""

import argparse
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from pipeline.artifacts import Artifact, read_json
from pipeline.errors import ConfigError, DataFault, ProvetuneError, StageFailed, printable
from pipeline.recorded import BUNDLE, RecordedNode, RecordedRun, opened, told
from pipeline.verify import problems

WEIGHT_FOLDERS = ("model", "adapter", "tokenizer")
"""Folders of an artifact that hold a model; `--weights` packs them."""
_DESCRIBING = ("config.json", "adapter_config.json", "generation_config.json", "chat_template.jinja", "README.md")
"""What of a model says what it is, and is small."""
_ROWS = (".jsonl", ".npy", ".arrow", ".safetensors", ".bin", ".gguf", ".zst")
_ROWS_WANTED = ("evaluate.", "sft.train", "pretrain.train", "dpo.train", "kto.train", "orpo.train")
"""Kinds whose rows are predictions or step logs, not training data."""
_LEDGER = "ledger.parquet"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def main(arguments: list[str] | None = None) -> int:
    """Pack one run: 0 and the bundle's size, or one line on stderr and the error's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.export",
        description="Pack a run for a reviewer, who can verify it without the model.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder, a run id in outputs/runs, or latest")
    parser.add_argument("bundle", metavar="BUNDLE", help="the .zip file to write")
    parser.add_argument("--weights", action="store_true", help="pack models and adapters too")
    asked = parser.parse_args(arguments)
    try:
        with opened(asked.run) as run:
            print(printable(export(run, Path(asked.bundle).expanduser(), asked.weights)))
        return 0
    except ProvetuneError as error:
        print(told(error), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        what = f"{error.filename or asked.bundle}: cannot be written: {error.strerror}"
        print(told(StageFailed(what)), file=sys.stderr)
        return StageFailed.exit_code


def export(run: RecordedRun, bundle: Path, weights: bool = False) -> str:
    """Write the bundle, whole or not at all, and say what is in it.

    Raises:
        ConfigError: the name of the bundle cannot be.
        DataFault: the run does not verify; what a reviewer cannot verify is not packed.
    """
    if bundle.suffix != ".zip" or bundle.is_dir():
        raise ConfigError(f"{bundle}: a bundle is a file that ends in .zip")
    if wrong := problems(run):
        raise DataFault(f"{run.name}: does not verify ({wrong[0]}); python -m pipeline.verify shows all")
    packed, left_out = _sorted_out(run, weights)
    head = {BUNDLE: _json({"format": 1, "run": run.name, "weights": weights, "left_out": left_out})}
    head["config.yaml"] = yaml.safe_dump(run.manifest["config"], sort_keys=False, allow_unicode=True).encode()
    draft = bundle.with_name(f".{bundle.name}.{os.getpid()}.tmp")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in head.items():
                archive.writestr(_entry(name), content)
            for name, file in packed.items():
                with file.open("rb") as source, archive.open(_entry(name), "w", force_zip64=True) as target:
                    while block := source.read(2**20):
                        target.write(block)
        draft.replace(bundle)
    finally:
        draft.unlink(missing_ok=True)
    size = bundle.stat().st_size
    return f"{bundle}: {len(packed) + len(head)} files, {size:,} bytes, {len(left_out)} files left out"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _sorted_out(run: RecordedRun, weights: bool) -> tuple[dict[str, Path], dict[str, str]]:
    """(name in the bundle → file, place → sha256 of what stays out)."""
    packed = {f"runs/{run.name}/{file.name}": file for file in sorted(run.folder.iterdir()) if file.is_file()}
    left_out: dict[str, str] = {}
    for node in sorted(run.nodes, key=lambda each: each.place):
        if not (node.folder / "done.json").is_file():
            continue
        packed[f"{node.place}/done.json"] = node.folder / "done.json"
        digests = read_json(node.folder / "done.json")["files"]
        for name in _sealed(node):
            if _is_wanted(node, name, weights):
                packed[f"{node.place}/{name}"] = node.folder / name
            else:
                left_out[f"{node.place}/{name}"] = digests[name]
    return packed, left_out


def _sealed(node: RecordedNode) -> Iterator[str]:
    for path in Artifact(node.folder).files():
        yield str(path.relative_to(node.folder))


def _is_wanted(node: RecordedNode, name: str, weights: bool) -> bool:
    """Whether a reviewer gets a file: predictions, ledger, losses and descriptions, not weights or training rows."""
    path = Path(name)
    if path.parts[0] in WEIGHT_FOLDERS:
        return weights or path.name in _DESCRIBING
    if path.suffix == ".parquet":
        return path.name == _LEDGER
    return path.suffix not in _ROWS or node.kind.startswith(_ROWS_WANTED)


if __name__ == "__main__":
    sys.exit(main())
