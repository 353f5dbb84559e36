"""Heuristic quality rules of Gopher, C4 and FineWeb, measured from one shared tokenisation of a batch of texts."""
