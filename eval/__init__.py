"""Measures of a language model, and the statistics that compare two of them. Never imports `pipeline`."""
