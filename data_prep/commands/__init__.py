"""`python -m data_prep`: curate files without a pipeline run."""
