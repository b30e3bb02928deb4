"""One score that stays explainable: a sum of named parts.

* `meaning`: late interaction (`maxsim`) in which every query word counts by its rarity in the corpus, in [-1, 1];
* `words`: BM25 (`lexical`), in [0, 2.2), times 0.2;
* `named`: 0.11 where the question names this very page («page 12», «the cover»).

None of them looks at other pages' scores, so a page's score stays what it is when pages are added or filtered away (but for
the rarity of words, which is the corpus's). The constants are from dev/LOG.md, 2026-11-22.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import numpy as np

from colsearcher.indexes.records import QueryEmbedding

Ranking = Literal["default", "late", "words"]
WORDS_WEIGHT = 0.2
NAMED_WEIGHT = 0.11

_NUMBERED = re.compile(r"\b(?:page|slide|p\.)\s*(?:number\s*)?(\d{1,4})\b", re.IGNORECASE)
_FIRST = re.compile(r"\b(?:first|cover)\s+(?:page|slide)\b|\bthe cover\b", re.IGNORECASE)
_LAST = re.compile(r"\blast\s+(?:page|slide)\b", re.IGNORECASE)


def vector_weights(query: QueryEmbedding, rarity: Callable[[str], float]) -> np.ndarray:
    """(t,) float64 that sum to 1: the query's own weights times the rarity of their words.

    The words' weights are brought to a sum of 1 before the special tokens join with theirs. A vector without a word (of a
    visual model, say) keeps its weight; where no word weighs anything, all vectors count the same.
    """
    weights = query.weights.astype(np.float64)
    if query.by_rarity:
        weights *= [rarity(word) if word else 1.0 for word in query.words]
    own = weights[~query.special].sum()
    if own <= 0:
        return np.full(len(weights), 1 / len(weights))
    weights[~query.special] /= own
    return weights / weights.sum()


def named_pages(question: str, numbers_P: np.ndarray, last_P: np.ndarray) -> np.ndarray:
    """(P,) bool: the pages that a question names by their place in their document.

    >>> named_pages("What is on page 2?", np.array([1, 2, 3]), np.array([3, 3, 3])).tolist()
    [False, True, False]
    >>> named_pages("Who is on the last slide?", np.array([1, 2, 3]), np.array([3, 3, 3])).tolist()
    [False, False, True]
    """
    named = np.isin(numbers_P, [int(number) for number in _NUMBERED.findall(question)])
    if _FIRST.search(question):
        named |= numbers_P == 1
    if _LAST.search(question):
        named |= numbers_P == last_P
    return named


def combine(ranking: Ranking, late_P: np.ndarray, words_P: np.ndarray, named_P: np.ndarray) -> dict[str, np.ndarray]:
    """The named parts of each page's score, (P,) float64 each; their sum is the score."""
    if ranking == "late":
        return {"meaning": late_P}
    if ranking == "words":
        return {"words": words_P}
    return {"meaning": late_P, "words": WORDS_WEIGHT * words_P, "named": NAMED_WEIGHT * named_P}
