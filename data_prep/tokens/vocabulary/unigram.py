"""The library's Unigram trainer reads words in an order that changes from run to run; here its result settles.

Sums of floats then differ in their last digits, and letters that were not learned share out their scores otherwise:
the lowest score and so many steps of 0.0001 above it. Pieces and their order are what they were, ties by spelling.
"""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DIGITS = 6
STEP = 0.0001
_NEAR = 1e-7


def settled(tokenizer: "Tokenizer", specials: int) -> "Tokenizer":
    """The same tokenizer, in the same bytes each time; the first `specials` tokens stay where they are."""
    from tokenizers import Tokenizer as Rebuilt

    content = json.loads(tokenizer.to_str())
    pieces: list[tuple[str, float]] = [(piece, score) for piece, score in content["model"]["vocab"]]
    first, learned = pieces[:specials], dict(pieces[specials:])
    lowest = min(learned.values())
    unlearned = sorted(piece for piece, score in learned.items() if len(piece) == 1 and _is_shared_out(score - lowest))
    scores = sorted((learned[piece] for piece in unlearned), reverse=True)
    learned |= dict(zip(unlearned, scores, strict=True))
    rounded = {piece: round(score, DIGITS) for piece, score in learned.items()}
    ordered = sorted(rounded.items(), key=lambda piece: (-piece[1], piece[0]))
    content["model"]["vocab"] = [*first, *ordered]
    return Rebuilt.from_str(json.dumps(content))


def _is_shared_out(above: float) -> bool:
    """Whether a score is a whole number of steps above the lowest."""
    return abs(above / STEP - round(above / STEP)) < _NEAR / STEP
