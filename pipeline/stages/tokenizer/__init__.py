"""A tokenizer trained on the run's rows, or new tokens for the tokenizer and the embeddings of a model."""
