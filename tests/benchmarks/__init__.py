"""Measurements for docs/performance.md, against the plain way and interleaved with it: `python -m tests.benchmarks`."""
