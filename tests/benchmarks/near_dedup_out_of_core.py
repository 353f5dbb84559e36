"""Near-duplicate removal of many short texts out of core: time, and memory per text.

Each measurement runs in a process of its own, so that its peak is that of this work alone.
"""

import json
import multiprocessing
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import overload

import numpy as np

from data_prep.curation.exact_dedup.order import keep_order, measure_of
from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.pairs import find_pairs, search_order
from data_prep.curation.near_dedup.resolve import resolve
from data_prep.curation.near_dedup.shingles import sign
from data_prep.curation.near_dedup.signatures import load_signatures

CONFIG = NearDedup()
SHARD_TEXTS = 20_000
PROCESSES = 2


class FileTexts(Sequence[str]):
    """Texts in a file, one per line, read when they are wanted."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.offsets = np.load(path.with_suffix(".offsets.npy"))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        start, end = self.offsets[row : row + 2].tolist()
        self.file.seek(start)
        return self.file.read(end - start - 1).decode()


def short_texts(count: int) -> Iterator[str]:
    """Texts of 40 to 80 words, of which one in five repeats one of the last 100,000 but for its last word."""
    draw, recent = random.Random(0), list[str]()
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(50_000)]
    for _ in range(count):
        if recent and draw.random() < 0.2:
            text = draw.choice(recent).rpartition(" ")[0] + " " + draw.choice(words)
        else:
            text = " ".join(draw.choices(words, k=draw.randint(40, 80)))
        recent.append(text)
        if len(recent) > 100_000:
            del recent[:50_000]
        yield text


def write_texts(path: Path, count: int) -> None:
    """The texts, and where each begins."""
    offsets = np.zeros(count + 1, dtype=np.int64)
    with path.open("wb") as file:
        for row, text in enumerate(short_texts(count)):
            offsets[row + 1] = offsets[row] + file.write(text.encode() + b"\n")
    np.save(path.with_suffix(".offsets.npy"), offsets)


def sign_shard(path: Path, start: int) -> Path:
    """Sign one shard, in any process."""
    target = path.with_name(f"{start:09d}.npy")
    texts = FileTexts(path)[start : start + SHARD_TEXTS]
    sign(texts, CONFIG.words, CONFIG.permutations, CONFIG.seed).save(target)
    return target


def run(path: Path) -> dict[str, float]:
    """Deduplicate; the peak of this process above what it had before, and of the largest worker."""
    texts = FileTexts(path)
    before, start = _peak(resource.RUSAGE_SELF), time.perf_counter()
    starts = range(0, len(texts), SHARD_TEXTS)
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        paths = list(pool.map(sign_shard, [path] * len(starts), starts))
    signed = time.perf_counter()
    index = load_signatures(paths, CONFIG.permutations)
    pairs = find_pairs(index, texts, CONFIG, search_order(index))
    found = time.perf_counter()
    zeros = np.zeros(len(texts), dtype=np.int8)
    order = keep_order(zeros > 0, zeros, measure_of(CONFIG.keep, index.characters), np.arange(len(texts)))
    removed = int((~resolve(pairs, CONFIG, order, texts).kept).sum())
    end = time.perf_counter()
    return {
        "documents": len(texts),
        "megabytes": path.stat().st_size / 1e6,
        "seconds": end - start,
        "sign": signed - start,
        "search": found - signed,
        "resolve": end - found,
        "removed": removed,
        "pairs": len(pairs.verified),
        "bytes_per_document": (_peak(resource.RUSAGE_SELF) - before) / len(texts),
        "worker_peak_megabytes": _peak(resource.RUSAGE_CHILDREN) / 1e6,
    }


def measure(count: int) -> dict[str, float]:
    """`run` on so many texts, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.txt"
        write_texts(path, count)
        command = [sys.executable, "-m", "tests.benchmarks.near_dedup_out_of_core", str(path)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=3600, check=True)
        return json.loads(done.stdout)


def _peak(who: int) -> int:
    return resource.getrusage(who).ru_maxrss * 1024


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
