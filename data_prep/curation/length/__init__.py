"""Rows that are too short or too long."""
