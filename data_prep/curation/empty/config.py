"""The settings of the step against rows without content. Imports only pydantic."""

from data_prep.strict import StrictModel, threshold


class Empty(StrictModel):
    """Drop rows without a prompt, completion or text, chats without an assistant's turn, and garbled text."""

    max_garbled_share: float = threshold(0.01, ge=0, le=1)
    """Largest share of U+FFFD (the sign of a wrong decoding) among a row's characters; a NUL always drops the row."""
