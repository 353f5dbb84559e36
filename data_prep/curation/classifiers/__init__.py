"""Classifiers that score rows: trainable linear ones, and any transformers sequence classifier."""
