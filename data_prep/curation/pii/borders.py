"""Where a value may begin and end: no rule may cut a piece out of a longer identifier."""


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether neither a letter, digit or underscore nor a decimal point continues text[start:end]."""
    after = text[end : end + 2]
    if after and (after[0].isalnum() or after[0] == "_" or (after[0] == "." and after[1:].isdigit())):
        return False
    before = text[max(0, start - 2) : start]
    if not before or follows_escape(text, start):
        return True
    # A comma may be one of a CSV line; a point between digits is a decimal point.
    if before[-1] == ".":
        return not before[0].isdigit()
    return not (before[-1].isalnum() or before[-1] in "_$€£¥#")


def follows_escape(text: str, start: int) -> bool:
    r"""Whether an escaped line end (\n) stands before a place: its n belongs to no word."""
    return start > 1 and text[start - 2] == "\\" and text[start - 1] in "ntr"
