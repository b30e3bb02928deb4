"""Late interaction over passages: a page scores as its best passage does. This is the definition; `kernels` make it fast.

    score(q, p) = max_{s in passages(p)}  sum_t  w_t · max_{n in s} q_t · p_n

With `block_rows` = 0 a page is one passage and this is ColBERT's MaxSim (Khattab & Zaharia 2020) with query weights. With
`block_rows` = b a passage is two neighbouring blocks of b vectors (the last may be shorter), so a query's words have to be
matched near one another; on long text pages that ranks better (dev/LOG.md, 2026-11-22). Pages are ragged and never padded, and
a score depends on page and query and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from colsearcher.indexes.codecs import Codec, EncodedVectors

# Scores of float16 pages differ from exact arithmetic by less than this, where weights sum to 1.
SCORE_ERROR = 5e-5


@dataclass(frozen=True)
class PageRows:
    """Pages of one segment: page i owns rows starts_P[i] … starts_P[i] + rows_P[i] of its vectors, at least one.

    `key` names the stored vectors for as long as they exist.
    """

    key: str
    encoded: EncodedVectors
    starts_P: np.ndarray
    rows_P: np.ndarray

    @functools.cached_property
    def in_memory(self) -> np.ndarray:
        """(4, P) int64: the addresses of each page's codes and of its factors, its rows, and the rows of codes from its first
        to the end of the segment."""
        codes, factors = self.encoded.codes, self.encoded.factors
        codes_P = codes.__array_interface__["data"][0] + self.starts_P * codes.strides[0]
        factors_P = factors.__array_interface__["data"][0] + self.starts_P * factors.itemsize
        return np.stack([codes_P, factors_P, self.rows_P, len(codes) - self.starts_P])


@dataclass(frozen=True)
class QueryBatch:
    """Queries that are scored together: query q owns vectors offsets_Q[q] … offsets_Q[q + 1].

    Attributes:
        vectors_T_D: float32 vectors of all queries, stacked.
        weights_T: float64, at least 0.
        offsets_Q: (Q + 1,) int64.
    """

    vectors_T_D: np.ndarray
    weights_T: np.ndarray
    offsets_Q: np.ndarray

    @classmethod
    def stack(cls, vectors: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> Self:
        """One batch of several queries, each (t, D) vectors and (t,) weights."""
        lengths = [len(weights_T) for weights_T in weights]
        return cls(
            np.concatenate(vectors).astype(np.float32, copy=False),
            np.concatenate(weights).astype(np.float64, copy=False),
            np.cumsum([0, *lengths], dtype=np.int64),
        )


# (segments, codec, queries, block_rows) to (pages of all segments in order, Q) float64 scores; `kernels.cpu.scan` is one.
Scan = Callable[[Sequence[PageRows], Codec, QueryBatch, int], np.ndarray]


def passage_maxima(vectors_N_D: np.ndarray, query_T_D: np.ndarray, block_rows: int = 0) -> np.ndarray:
    """(S, T) float32: the best inner product of each query vector in each passage of a page of n >= 1 vectors.

    >>> page = np.array([[1, 0], [0, 0], [0, 1]], dtype=np.float16)               # blocks of one: passages 0-1 and 1-2
    >>> passage_maxima(page, np.array([[0, 1], [1, 0]], dtype=np.float32), block_rows=1).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    similarities_N_T = vectors_N_D.astype(np.float32) @ query_T_D.T
    if not block_rows:
        return similarities_N_T.max(axis=0, keepdims=True)
    blocks_B_T = np.maximum.reduceat(similarities_N_T, np.arange(0, len(vectors_N_D), block_rows), axis=0)
    return np.maximum(blocks_B_T[:-1], blocks_B_T[1:]) if len(blocks_B_T) > 1 else blocks_B_T


def page_score(vectors_N_D: np.ndarray, query_T_D: np.ndarray, weights_T: np.ndarray, block_rows: int = 0) -> float:
    """The score of one page of n >= 1 vectors.

    >>> page = np.array([[1, 0], [0.6, 0.8]], dtype=np.float16)
    >>> query = np.array([[0, 1], [1, 0]], dtype=np.float32)
    >>> round(page_score(page, query, np.array([1, 1])), 3)                       # 0.8 + 1
    1.8
    >>> round(page_score(page, query, np.array([1, 0.5])), 3)                     # 0.8 + 0.5
    1.3
    """
    return float((passage_maxima(vectors_N_D, query_T_D, block_rows).astype(np.float64) @ weights_T).max())


def best_passage(vectors_N_D: np.ndarray, query_T_D: np.ndarray, weights_T: np.ndarray, block_rows: int = 0) -> slice:
    """The rows of the passage that gave a page its score.

    >>> page = np.array([[1, 0], [0, 0], [0, 1]], dtype=np.float16)
    >>> best_passage(page, np.array([[0, 1]], dtype=np.float32), np.array([1]), block_rows=1)
    slice(1, 3, None)
    """
    if not block_rows:
        return slice(0, len(vectors_N_D))
    scores_S = passage_maxima(vectors_N_D, query_T_D, block_rows) @ weights_T
    first = int(scores_S.argmax()) * block_rows
    return slice(first, min(first + 2 * block_rows, len(vectors_N_D)))
