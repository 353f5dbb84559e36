"""Linear classifiers: MB/s on one core beside scikit-learn's HashingVectorizer, and seconds to train.

OMP_NUM_THREADS=1 python -m tests.benchmarks.classifier
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

from data_prep.curation.classifiers.config import TrainQuality
from data_prep.curation.classifiers.linear import load_linear
from data_prep.curation.classifiers.train import train_quality
from tests.benchmarks.quality import shipped, size, speed

ROUNDS = 3
SHARD = 100
PEER_TEXTS = 300


def main() -> None:
    """Train on long against short documents (any labels give the same speed), then A B A B."""
    texts = shipped()
    middle = statistics.median(map(len, texts))
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": text, "label": len(text) > middle}) + "\n" for text in texts))
        start = time.process_time()
        card = train_quality(TrainQuality(labelled=[str(rows)]), Path(folder) / "out")
        print(
            f"trained on {len(texts):,} texts, {size(texts):.1f} MB, in {time.process_time() - start:.0f} s; ", end=""
        )
        print(f"held-out AUC {card['held_out']['auc']}")
        model = load_linear(Path(folder) / "out")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(speed(lambda: [model.scores(texts[at : at + SHARD]) for at in range(0, len(texts), SHARD)], texts))
        theirs.append(speed(lambda: vectorised(texts[:PEER_TEXTS]), texts[:PEER_TEXTS]))
    base = statistics.median(theirs)
    print(f"scores            {statistics.median(ours):5.1f} MB/s")
    print(f"scikit-learn      {base:5.2f} MB/s (features alone); ratio {statistics.median(ours) / base:.0f}")


def vectorised(texts: list[str]) -> None:
    """Words, word pairs and runs of 3 to 5 characters, hashed by scikit-learn."""
    from sklearn.feature_extraction.text import HashingVectorizer

    HashingVectorizer(ngram_range=(1, 2), n_features=2**18).transform(texts)
    HashingVectorizer(analyzer="char", ngram_range=(3, 5), n_features=2**18).transform(texts)


if __name__ == "__main__":
    main()
