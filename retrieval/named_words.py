"""Which tokens of a question are meant where some of its words are named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

import numpy as np

_WORD = re.compile(r"\w+")


def named_words(words: Sequence[str | None], named: str) -> np.ndarray:
    """(t,) bool: the tokens of a run of words, wherever the question has that run; none where it has not.

    Pieces of one word, which follow each other, are one word; punctuation between words and capitals do not matter.

    >>> named_words([None, "a", "red", "red", "", "ring", "red", "star"], "Red ring").tolist()
    [False, False, True, True, False, True, False, False]

    Args:
        words: the word that each token stands for, lower case; empty or None where there is none.
        named: one or more words, as they follow each other in the question.
    """
    meant = np.zeros(len(words), dtype=bool)
    tokens = ((word, t) for t, word in enumerate(words) if word and _WORD.search(word))
    runs = [(word, [t for _, t in run]) for word, run in groupby(tokens, key=lambda token: token[0])]
    wanted = [word for word, _ in groupby(_WORD.findall(named.lower()))]
    for start in range(len(runs) - len(wanted) + 1 if wanted else 0):
        part = runs[start : start + len(wanted)]
        if [word for word, _ in part] == wanted:
            meant[[t for _, run in part for t in run]] = True
    return meant


def has_words(text: str, named: str) -> bool:
    """Whether a text has a run of words.

    >>> has_words("Which page shows a red, blue ring?", "red blue"), has_words("rings", "ring"), has_words("a ?", "?")
    (True, False, False)
    """
    return bool(named_words(_WORD.findall(text.lower()), named).any())
