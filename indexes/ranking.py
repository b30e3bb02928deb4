"""One score that stays explainable: a sum of named parts, each bounded.

* `meaning`: late interaction, the weighted mean over query vectors of their best match on the page (`maxsim`), in [-1, 1];
* `words`: BM25 over its ceiling for this query, in [0, 1], times a constant.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from colsearcher.indexes.lexical import LexicalMatch
from colsearcher.indexes.records import QueryEmbedding

Ranking = Literal["default", "late", "words"]
WORDS_WEIGHT = 0.5


def combine(ranking: Ranking, query: QueryEmbedding, maxima_P_T: np.ndarray, match: LexicalMatch) -> dict[str, np.ndarray]:
    """The named parts of each page's score, (P,) float64 each; their sum is the score."""
    late = maxima_P_T.astype(np.float64) @ query.weights.astype(np.float64) / query.weights.sum(dtype=np.float64)
    words = match.scores_P / match.ceiling if match.ceiling else match.scores_P
    if ranking == "late":
        return {"meaning": late}
    if ranking == "words":
        return {"words": words}
    return {"meaning": late, "words": WORDS_WEIGHT * words}
