"""Curation: drop rows by stated rules, with a ledger of every reason."""
