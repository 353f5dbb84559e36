"""Pretraining, from scratch or continued: `prepare` (packed or corrupted rows, CPU) and `train` (ranks)."""
