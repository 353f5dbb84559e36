"""Rows without usable content."""
