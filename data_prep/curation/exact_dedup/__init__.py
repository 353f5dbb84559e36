"""Exact duplicates: equal rows, sides or fields by 128-bit keys, over any number of shards."""
