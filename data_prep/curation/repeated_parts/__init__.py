"""Boilerplate: lines or paragraphs that many documents have, counted over all shards and taken out of the rows."""
