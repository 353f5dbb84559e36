"""Simple preference optimization: the pairs of `dpo.prepare`, no reference, and `train`."""
