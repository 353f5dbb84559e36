"""Kahneman–Tversky optimization: `prepare` (judged answers as tokens, CPU), `reference` and `train`."""
