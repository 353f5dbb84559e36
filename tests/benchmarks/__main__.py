"""`python -m tests.benchmarks`: every measurement, as the tables of docs/performance.md."""

import argparse
import json
from pathlib import Path

from tests.benchmarks import sft_overhead, startup

STARTUP_HEAD = ["command", "seconds (median)", "limit"]
OVERHEAD_HEAD = [
    "",
    "tokens/s",
    "training, s",
    "process, s",
    "peak, GB",
    "training ÷ ours",
    "process ÷ ours",
    "peak ÷ ours",
]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--experiment", default="lora_llama", help="what is measured; smoke takes a minute")
    parser.add_argument("--outputs", default="outputs", help="folder of artifacts; what is missing is made first")
    parser.add_argument("--pairs", type=int, default=3, help="interleaved trainings of each kind")
    parser.add_argument("--steps", type=int, default=None, help="shorter trainings")
    parser.add_argument("--json", type=Path, default=None, help="also write every measurement here")
    asked = parser.parse_args()
    run = [f"+experiment={asked.experiment}", f"outputs={asked.outputs}"]
    first = startup.seconds(*run)
    print(f"`{asked.experiment}`, cached or not: {first:.1f} s\n", flush=True)
    waits = startup.measure(run)
    print(markdown(STARTUP_HEAD, startup.rows(waits)) + "\n", flush=True)
    found = {}
    for name in ("lora", "qlora"):
        found[name] = sft_overhead.compare(Path(asked.outputs), asked.pairs, asked.steps, quantised=name == "qlora")
        print(f"{name}\n\n{markdown(OVERHEAD_HEAD, sft_overhead.rows(found[name]))}\n")
        print(
            f"{found[name]['steps']} steps, {found[name]['pairs']} times each, interleaved; medians. Largest ", end=""
        )
        print(f"difference of a step's loss: {found[name]['loss_difference']:.1e}. ", end="")
        print(f"Checkpoints: {found[name]['checkpoint_share']:.1%} of the training time at most\n", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"startup": waits, **found}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(each["loss_difference"] <= sft_overhead.TOLERANCE for each in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
