"""Tokens: canonical rows become token ids and a loss mask, verified and audited on CPU before any GPU time."""
