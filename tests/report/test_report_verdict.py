"""The verdict: which comparison speaks, and how it is worded."""

from typing import Any

import pytest

from pipeline.report.verdict import headline, sentence


def cell(**changes: Any) -> dict[str, Any]:
    base = {"base": 0.969, "tuned": 0.863, "difference": -0.106, "low": -0.125, "high": -0.087, "n": 100}
    return base | {"verdict": "better", "p_holm": 0.0004} | changes


def test_better_says_direction_size_interval_and_n() -> None:
    assert sentence("bits_per_byte", cell()) == (
        "Better: the training lowers held-out bits per byte by 0.106 (95 % interval 0.087 to 0.125, n = 100)."
    )


def test_worse_says_raises_for_a_metric_that_should_fall() -> None:
    worse = cell(difference=0.0136, low=0.0092, high=0.0181, verdict="worse")
    assert sentence("bits_per_byte", worse, 0.9) == (
        "Worse: the training raises held-out bits per byte by 0.0136 (90 % interval 0.0092 to 0.0181, n = 100)."
    )


def test_better_raises_a_metric_that_should_rise() -> None:
    better = cell(difference=0.05, low=0.03, high=0.07)
    assert sentence("rougeL", better).startswith("Better: the training raises held-out ROUGE-L by 0.050 (95 % interval")


def test_cannot_tell_says_what_would_decide_it() -> None:
    undecided = cell(
        difference=-0.004, low=-0.012, high=0.004, verdict="cannot tell", detectable=0.008, more_needed=310
    )
    assert sentence("bits_per_byte", undecided) == (
        "Cannot tell: held-out bits per byte changed by −0.004, and the 95 % interval (−0.012 to +0.004, n = 100) "
        "includes no change. With this many rows, changes below about 0.008 stay unseen. "
        "About 310 more rows would settle a change of this size."
    )


def test_cannot_tell_after_correction_does_not_claim_that_the_interval_includes_zero() -> None:
    corrected = cell(difference=0.017, low=0.002, high=0.034, verdict="cannot tell", p_holm=0.063)
    text = sentence("rouge2", corrected)
    assert "includes no change" not in text
    assert "does not stand after correcting for the number of metrics (p = 0.063)" in text


@pytest.mark.parametrize("missing", [{"low": None, "high": None}, {"difference": None}, {"n": None}])
@pytest.mark.parametrize("verdict", ["better", "worse", "cannot tell"])
def test_missing_numbers_still_make_a_sentence(missing: dict[str, None], verdict: str) -> None:
    text = sentence("bits_per_byte", cell(verdict=verdict) | missing)
    assert text.endswith(".") and "None" not in text


def test_the_last_comparison_speaks_through_bits_per_byte() -> None:
    rouge = {"rouge/a": {"rouge1": cell(), "rougeL": cell()}}
    comparisons = {
        "pretrain_vs_base": {"perplexity/a": {"bits_per_byte": cell()}},
        "sft_vs_base": rouge | {"perplexity/b": {"token_perplexity": cell(), "bits_per_byte": cell()}},
    }
    chosen = headline(comparisons, 0.95)
    assert chosen is not None
    assert (chosen["comparison"], chosen["task"], chosen["metric"]) == ("sft_vs_base", "perplexity/b", "bits_per_byte")
    assert chosen["confidence"] == 0.95 and chosen["difference"] == -0.106
    second = headline({"sft_vs_base": rouge}, 0.95)
    assert second is not None and second["metric"] == "rougeL"


def test_without_comparisons_there_is_no_verdict() -> None:
    assert headline({}, 0.95) is None
    assert headline({"sft_vs_base": {}, "x_vs_base": {"rouge/a": {}}}, 0.95) is None
