"""Data preparation: sources and formats, curation, tokens. Never imports torch, `pipeline` or `eval`."""
