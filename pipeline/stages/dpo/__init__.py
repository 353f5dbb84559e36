"""Direct preference optimization: `prepare` (pairs of tokens, CPU), `reference` (log-probabilities) and `train`."""
