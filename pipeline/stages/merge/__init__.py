"""Adapters merged into the weights: a whole model that needs no PEFT."""
