"""The command line: `python -m eval`."""
