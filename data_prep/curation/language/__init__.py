"""Rows in other languages."""
