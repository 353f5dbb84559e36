"""Prompts into answers: config, requests, choose, caches, slots, batches, engine (read in this order)."""
