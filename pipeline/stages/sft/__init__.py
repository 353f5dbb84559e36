"""Supervised fine-tuning: `prepare` (tokens and masks, CPU) and `train` (ranks)."""
