"""Tokenizers: trained on the rows of a run, or extended by the words of a domain."""
