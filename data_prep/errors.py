"""The one error class of data preparation."""


class DataError(Exception):
    """The data cannot be used as asked: one line that names the thing, what is allowed and the next step."""
