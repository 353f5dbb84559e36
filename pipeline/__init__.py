"""Provetune: fine-tune a language model, and prove whether it helped."""

__version__ = "0.1.0"
