"""Turns a run's `report.json` into `report.html` and `report.md`; the JSON is the source of everything shown."""
