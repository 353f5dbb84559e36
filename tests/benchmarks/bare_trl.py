"""What an experienced user would write: LoRA through TRL on tokenised rows, nothing else. Prints one line of JSON."""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from datasets import load_from_disk
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of save_pretrained")
    parser.add_argument("--rows", required=True, help="datasets folder with input_ids and labels")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--schedule", default="cosine")
    parser.add_argument("--warmup-steps", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--quantization", choices=["nf4"], help="frozen weights of 4 bit, double quantisation")
    return parser.parse_args()


def load(asked: argparse.Namespace) -> AutoModelForCausalLM:
    form = None
    if asked.quantization:
        form = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=asked.quantization,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, asked.dtype),
        )
    return AutoModelForCausalLM.from_pretrained(
        asked.model, dtype=getattr(torch, asked.dtype), quantization_config=form
    )


def peak_bytes() -> int:
    """Of this process, by the kernel: ru_maxrss would begin with what the parent took."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    asked = parse()
    set_seed(asked.seed)
    rows = load_from_disk(asked.rows).remove_columns("id")
    with tempfile.TemporaryDirectory() as folder:
        on_cpu = not torch.cuda.is_available()
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=asked.steps,
            per_device_train_batch_size=asked.batch_size,
            learning_rate=asked.learning_rate,
            lr_scheduler_type=asked.schedule,
            warmup_steps=asked.warmup_steps,
            logging_steps=1,
            save_steps=asked.save_every,
            save_total_limit=2,
            bf16=False,
            activation_checkpointing=False,
            use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu,
            seed=asked.seed,
            data_seed=asked.seed,
            max_length=None,
            report_to="none",
            disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        trainer = SFTTrainer(
            model=load(asked),
            args=arguments,
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(asked.model),
            peft_config=LoraConfig(
                r=asked.rank, lora_alpha=asked.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        trainer.save_model(f"{folder}/adapter")
    tokens = sum(len(ids) for ids in rows["input_ids"]) / len(rows) * asked.batch_size * asked.steps
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    told = {"train_seconds": seconds, "tokens_per_second": tokens / seconds, "peak_bytes": peak_bytes()}
    print(json.dumps({**told, "losses": losses}))


if __name__ == "__main__":
    main()
