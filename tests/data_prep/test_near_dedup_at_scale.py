"""Near-duplicates at scale: precision and recall over many seeds, and memory per text."""

import pytest
from near_dedup_reference import jaccard, planted, shingles_reference

from data_prep.curation.near_dedup.config import NearDedup
from data_prep.curation.near_dedup.find import find_near_duplicates


@pytest.mark.slow
def test_precision_and_recall_over_twenty_seeds():
    """Recall ≥ 0.97 of pairs with true Jaccard ≥ 0.85, precision ≥ 0.99 at the threshold, nothing below 0.7."""
    close = found_close = removed = right = 0
    for seed in range(100, 120):
        texts, pairs = planted(seed)
        shingles = [shingles_reference(text, 5) for text in texts]
        found = find_near_duplicates(texts, NearDedup())
        for first, second in pairs:
            true = jaccard(shingles[first], shingles[second])
            close += true >= 0.85
            found_close += true >= 0.85 and not (found.kept[first] and found.kept[second])
        for row in range(len(texts)):
            if (witness := found.of(row)) is not None:
                true = jaccard(shingles[row], shingles[witness[0]])
                assert true >= 0.7
                removed += 1
                right += true >= 0.8
    assert close > 1500 and removed > 1500
    assert found_close / close >= 0.97
    assert right / removed >= 0.99


@pytest.mark.slow
def test_memory_grows_by_at_most_1200_bytes_per_text():
    from tests.benchmarks.near_dedup_out_of_core import measure

    small, large = (measure(documents) for documents in (100_000, 200_000))
    peaks = [each["bytes_per_document"] * each["documents"] for each in (small, large)]
    assert (peaks[1] - peaks[0]) / 100_000 <= 1200
    assert large["removed"] / large["documents"] == pytest.approx(0.2, abs=0.02)
    assert large["worker_peak_megabytes"] <= small["worker_peak_megabytes"] * 1.2
