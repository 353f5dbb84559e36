"""The teacher of the bundled classifier: alt-profanity-check (MIT), asked about texts without names of groups.

It gives "I am a gay black woman" 0.96, so it never sees the groups. Its files are read where pip put them; nothing
of them is copied. It loads a pickle, which is why it is for training only.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.curation.toxicity.identity import NEW_GROUPS, TRAINED_GROUPS
from data_prep.errors import DataError

OTHER_NAMES = (
    *("gays", "lesbians", "muslims", "islam", "jews", "christians", "blacks", "whites", "mexicans", "women", "girls"),
    *("africa", "african", "asians", "homosexuals", "homosexuality", "islamic", "judaism", "lgbt"),
)
_GROUPS = sorted((*TRAINED_GROUPS, *NEW_GROUPS, *OTHER_NAMES), key=lambda name: (-len(name), name))
_GROUP = re.compile(rf"\b(?:{'|'.join(map(re.escape, _GROUPS))})s?\b", re.IGNORECASE)
STRONG = 0.6
"""A word that the teacher scores so high carries toxicity by itself."""


def without_groups(text: str) -> str:
    """The text with every name of a group left out."""
    return _GROUP.sub(" ", text)


def teacher_scores(texts: Sequence[str]) -> list[float]:
    """The teacher's probability that each text, without names of groups, is profane or insulting."""
    profanity = _package("profanity_check", "alt-profanity-check==1.9.1")
    return np.round(profanity.predict_prob([without_groups(text) for text in texts]), 4).tolist()


def toxic_words() -> list[str]:
    """Words of alt-profanity-check and better-profanity (MIT) that the teacher alone scores high, sorted."""
    profanity = _package("profanity_check.profanity_check", "alt-profanity-check==1.9.1")
    better = _package("better_profanity", "better-profanity==0.7.0")
    filters = better.Profanity()
    known = {str(word) for word in profanity.vectorizer.vocabulary_}
    known |= {str(word) for word in filters.CENSOR_WORDSET}
    words = sorted(word for word in known if word.isascii() and len(word) > 2 and without_groups(word) == word)
    return [word for word, score in zip(words, teacher_scores(words), strict=True) if score >= STRONG]


def _package(module: str, requirement: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{module}: not installed, the teacher needs it; pip install --no-deps {requirement}"
        ) from error
