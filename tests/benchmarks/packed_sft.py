"""Packed fine-tuning on short instructions against TRL's default padding: supervised tokens per second, final loss.

`PROVETUNE_EXTRA_DATA=FOLDER python -m tests.benchmarks.packed_sft` with FOLDER/alpaca_en_demo.json. Both sides see the
same rows for one epoch, as many conversations per step, in fresh processes with the same environment, interleaved; the
loss of both is measured on the same held-out rows by plain transformers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FILE = "alpaca_en_demo.json"
LORA = {"kind": "lora", "r": 16, "alpha": 32.0, "dropout": 0.0, "target": "all-linear"}
RATE, SEED = 2e-4, 42


def prepared(model: Path, file: Path, out: Path, rows: int, held_out: int, max_length: int) -> dict[str, Path]:
    """Token arrays of the first rows of the file, apart and packed; DataError where the file is no alpaca file."""
    from data_prep.config import DatasetConfig
    from data_prep.load import load
    from data_prep.rows import SPLITS, read_rows, write_rows
    from data_prep.tokens.config import TokensConfig
    from data_prep.tokens.prepare import PACKED, SUPERVISED, prepare
    from pipeline.training.models import load_tokenizer

    load("alpaca", DatasetConfig.model_validate({"source": str(file)}), out / "loaded", None)
    found = sorted((row for split in SPLITS for row in read_rows(out / "loaded", split)), key=lambda row: row["id"])
    write_rows(out / "rows", "train", found[:rows])
    write_rows(out / "rows", "validation", found[rows : rows + held_out])
    config, tokenizer = TokensConfig(max_length=max_length, max_truncated_share=1.0), load_tokenizer(model, False)
    for name, form in {"none": SUPERVISED, "best_fit": PACKED}.items():
        prepare(out / "rows", tokenizer, out / name, config, form=form)
    return {"apart": out / "none", "packed": out / "best_fit"}


def train(side: str, model: Path, rows: Path, batch: int, out: Path) -> dict[str, float]:
    """One epoch; seconds of the training itself, and the loss on the held-out rows afterwards."""
    seconds = _ours(model, rows, batch, out) if side == "packed" else _bare(model, rows, batch, out)
    return {"seconds": seconds, "loss": held_out_loss(model, out / "adapter", rows)}


def _ours(model: Path, rows: Path, batch: int, out: Path) -> float:
    from data_prep.progress import silent
    from pipeline.stages.sft.config import SftConfig
    from pipeline.stages.sft.train import run

    asked = SftConfig.model_validate({"learning_rate": RATE, "batch_size": batch, "adapter": LORA, "epochs": 1.0})
    whole = {"seed": SEED, "dtype": "float32", "attention": "sdpa", "trust_remote_code": False}
    config = asked.model_dump(mode="json") | whole
    from pipeline.stages.sft import train as stage

    recipe = getattr(stage, "SftTrainConfig", None) or stage.TrainConfig
    config = {name: value for name, value in config.items() if name in recipe.model_fields}
    return run(config, {"weights": model, "rows": rows}, out, silent)["train_seconds"]


def _bare(model: Path, rows: Path, batch: int, out: Path) -> float:
    """TRL as it comes: each conversation a row, padded to the longest of its batch."""
    import torch
    from datasets import load_from_disk
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    set_seed(SEED)
    on_cpu = not torch.cuda.is_available()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(out),
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            save_strategy="no",
            logging_steps=1,
            seed=SEED,
            data_seed=SEED,
            bf16=False,
            use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu,
            activation_checkpointing=False,
            max_length=None,
            report_to="none",
            disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=load_from_disk(str(rows / "train")).remove_columns("id"),  # pyright: ignore[reportArgumentType]
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.save_model(str(out / "adapter"))
    return seconds


def held_out_loss(model: Path, adapter: Path, rows: Path) -> float:
    """Nats per supervised token of the validation rows, one by one."""
    import torch
    from datasets import load_from_disk
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tuned: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), str(adapter)).eval()
    nats, tokens = 0.0, 0
    for row in load_from_disk(str(rows / "validation")):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.no_grad():
            logits = tuned(ids).logits[0, :-1].float()
        nats += float(torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum"))
        tokens += int((labels[1:] != -100).sum())
    return nats / tokens


def measure(model: Path, file: Path, pairs: int, rows: int, held_out: int, max_length: int) -> dict[str, Any]:
    """Interleaved trainings; the median ratio of supervised tokens per second, and the losses of both sides."""
    with tempfile.TemporaryDirectory() as name:
        folders = prepared(model, file, Path(name), rows, held_out, max_length)
        audit = json.loads((folders["packed"] / "audit.json").read_text(encoding="utf-8"))["splits"]["train"]
        batch = {"packed": 1, "apart": max(1, round(audit["rows"] / audit["packed_rows"]))}
        measured: dict[str, list[dict[str, float]]] = {"packed": [], "apart": []}
        for pair in range(pairs):
            for side, found in measured.items():
                found.append(_child(side, model, folders[side], batch[side], Path(name) / f"{side}{pair}"))
    supervised = audit["supervised_tokens"]
    ratios = [a["seconds"] / p["seconds"] for a, p in zip(measured["apart"], measured["packed"], strict=True)]
    return {
        "rows": audit["rows"],
        "packed_rows": audit["packed_rows"],
        "conversations_per_step": batch["apart"],
        "supervised_tokens": supervised,
        "speedup": statistics.median(ratios),
        "measured": {
            side: [{**run, "supervised_tokens_per_second": supervised / run["seconds"]} for run in runs]
            for side, runs in measured.items()
        },
    }


def _child(side: str, model: Path, rows: Path, batch: int, out: Path) -> dict[str, float]:
    from pipeline.launch import worker_environment

    out.mkdir()
    command = [sys.executable, "-m", "tests.benchmarks.packed_sft", "--side", side, "--model", str(model)]
    command += ["--rows-folder", str(rows), "--batch", str(batch), "--out", str(out)]
    done = subprocess.run(command, env=worker_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.packed_sft", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of save_pretrained")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=128, help="rows to train on")
    parser.add_argument("--held-out", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--side", choices=["packed", "apart"], help=argparse.SUPPRESS)
    parser.add_argument("--rows-folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(train(asked.side, asked.model, asked.rows_folder, asked.batch, asked.out)))
        return 0
    if "PROVETUNE_EXTRA_DATA" not in os.environ:
        raise SystemExit(f"PROVETUNE_EXTRA_DATA: not set; give the folder that holds {FILE}")
    file = Path(os.environ["PROVETUNE_EXTRA_DATA"]) / FILE
    found = measure(asked.model, file, asked.pairs, asked.rows, asked.held_out, asked.max_length)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
