"""Rows with toxic texts."""
