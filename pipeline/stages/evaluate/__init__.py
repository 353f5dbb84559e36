"""Evaluation: `predict` per model, and `compare` of two models' predictions."""
