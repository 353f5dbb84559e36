"""Curation: typed filter steps, a ledger of every row's fate, and the funnel of what each step dropped."""
