"""Bring text to one form: Unicode, line ends, control characters."""
