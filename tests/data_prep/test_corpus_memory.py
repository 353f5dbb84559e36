"""A corpus that is larger than memory: documents become rows of tokens in memory that does not grow with them."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.rows import write_rows
from data_prep.tokens.vocabulary.config import VocabularyConfig
from data_prep.tokens.vocabulary.train import train_tokenizer

PREPARE = """
import sys, threading
from pathlib import Path
from transformers import AutoTokenizer
from data_prep.tokens.corpus import prepare_corpus
from data_prep.tokens.corpus_config import CorpusConfig

def held():  # not the pages of mapped files: the kernel takes them back when it needs them
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

tokenizer, peak, ended = AutoTokenizer.from_pretrained(sys.argv[1]), [0], threading.Event()
def sample():
    while not ended.wait(0.005):
        peak[0] = max(peak[0], held())
threading.Thread(target=sample, daemon=True).start()
config = CorpusConfig(max_length=512, packing=sys.argv[4])
totals = prepare_corpus(Path(sys.argv[2]), tokenizer, Path(sys.argv[3]), config)
ended.set()
print(int(totals["tokens"]), peak[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_documents_become_rows_in_memory_that_does_not_grow(tmp_path: Path, packing: str) -> None:
    """Five times the documents and tokens, and the peak of what is held grows by less than a tenth."""
    words = [f"word{number}" for number in range(400)]
    train_tokenizer([" ".join(words)], VocabularyConfig(vocab_size=800)).save_pretrained(tmp_path / "tokenizer")
    found = []
    for times in (1, 5):
        draw = random.Random(times)
        texts = (" ".join(draw.choices(words, k=60)) for _ in range(8_000 * times))
        write_rows(tmp_path / f"in{times}", "train", ({"id": f"{n:07}", "text": text} for n, text in enumerate(texts)))
        folders = [str(tmp_path / name) for name in ("tokenizer", f"in{times}", f"out{times}")]
        command = [sys.executable, "-c", PREPARE, *folders, packing]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        found.append([int(number) for number in done.stdout.split()])
    (fewer, small), (more, large) = found
    assert more > 4.5 * fewer
    assert large < 1.1 * small, found
