"""The Hydra configuration groups; package data, read by `pipeline/cli.py`."""
