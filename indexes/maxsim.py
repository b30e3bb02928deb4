"""Exact late interaction over passages: a page scores as its best passage does.

    score(q, p) = max_{s in passages(p)}  sum_t  w_t · max_{n in s} q_t · p_n

With `block_rows` = 0 a page is one passage and this is ColBERT's MaxSim (Khattab & Zaharia 2020) with query weights. With
`block_rows` = b a passage is two neighbouring blocks of b vectors (the last may be shorter), so a query's words have to be
matched near one another; on long text pages that ranks better (dev/LOG.md, 2026-11-22).

Pages are ragged and never padded; stored float16 values are widened to float32 before they are multiplied, and products are
summed in float32. A scan of all pages multiplies big blocks, whose rounding depends on their shape; pages that can reach the
top are then scored again one at a time (`page_score`), so a reported score depends on page and query and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# About what fits the second-level cache of a core once widened to float32.
SCAN_ROWS = 2_048
# Blocked float32 sums of some hundred products in [-1, 1] differ from one another by less than this.
SCAN_SLACK = 1e-4


@dataclass(frozen=True)
class PageRows:
    """Pages of one segment: page i owns rows starts_P[i] … starts_P[i] + rows_P[i] of its vectors, in rising order."""

    vectors_N_D: np.ndarray
    starts_P: np.ndarray
    rows_P: np.ndarray


@dataclass(frozen=True)
class PassageMaxima:
    """Best inner products, (S, T) float32, of T query vectors in S passages; page i owns those from first_P[i] on."""

    values_S_T: np.ndarray
    first_P: np.ndarray

    def scores(self, weights_T_Q: np.ndarray) -> np.ndarray:
        """(P, Q) float64, each page's best passage for each column of weights; (P,) for a single vector of weights."""
        return np.maximum.reduceat(self.values_S_T.astype(np.float64) @ weights_T_Q.astype(np.float64), self.first_P, axis=0)


def page_maxima(vectors_N_D: np.ndarray, query_T_D: np.ndarray, block_rows: int = 0) -> PassageMaxima:
    """The maxima of one page of n >= 1 vectors, computed from nothing but the page and the query."""
    import torch

    similarities = _similarities(vectors_N_D, torch.from_numpy(query_T_D)).numpy()
    return _passages(similarities, np.zeros(1, dtype=np.int64), np.array([len(vectors_N_D)]), block_rows)


def page_score(vectors_N_D: np.ndarray, query_T_D: np.ndarray, weights_T: np.ndarray, block_rows: int = 0) -> float:
    """The score of one page of n >= 1 vectors.

    >>> page = np.array([[1, 0], [0.6, 0.8]], dtype=np.float16)
    >>> query = np.array([[0, 1], [1, 0]], dtype=np.float32)
    >>> round(page_score(page, query, np.array([1, 1])), 3)                       # 0.8 + 1
    1.8
    >>> round(page_score(page, query, np.array([1, 0.5])), 3)                     # 0.8 + 0.5
    1.3
    >>> page = np.array([[1, 0], [0, 0], [0, 1]], dtype=np.float16)               # blocks of one: passages 0-1 and 1-2
    >>> page_score(page, query, np.array([1, 1]), block_rows=1)
    1.0
    """
    return float(page_maxima(vectors_N_D, query_T_D, block_rows).scores(weights_T)[0])


def best_passage(vectors_N_D: np.ndarray, query_T_D: np.ndarray, weights_T: np.ndarray, block_rows: int = 0) -> slice:
    """The rows of the passage that gave a page its score.

    >>> page = np.array([[1, 0], [0, 0], [0, 1]], dtype=np.float16)
    >>> best_passage(page, np.array([[0, 1]], dtype=np.float32), np.array([1]), block_rows=1)
    slice(1, 3, None)
    """
    if not block_rows:
        return slice(0, len(vectors_N_D))
    scores_S = page_maxima(vectors_N_D, query_T_D, block_rows).values_S_T @ weights_T
    first = int(scores_S.argmax()) * block_rows
    return slice(first, min(first + 2 * block_rows, len(vectors_N_D)))


def scan(segments: Sequence[PageRows], query_T_D: np.ndarray, weights_T_Q: np.ndarray, block_rows: int = 0) -> np.ndarray:
    """The scores of many pages for several queries, to within `SCAN_SLACK`; memory grows with pages and queries only.

    Args:
        segments: the pages to score, all with at least one vector.
        query_T_D: float32 vectors of all queries, stacked.
        weights_T_Q: column q holds the weights of query q, 0 at the vectors of the others; each column sums to at most 1.
        block_rows: rows of a block, 0 for whole pages.

    Returns:
        (pages of all segments in order, Q) float64.
    """
    import torch

    query = torch.from_numpy(query_T_D)
    scores = []
    for segment in segments:
        for start, stop, starts, rows in _runs(segment):
            similarities = _similarities(segment.vectors_N_D[start:stop], query).numpy()
            scores.append(_passages(similarities, starts - start, rows, block_rows).scores(weights_T_Q))
    return np.concatenate(scores) if scores else np.empty((0, weights_T_Q.shape[1]))


def _similarities(vectors_N_D: np.ndarray, query_T_D: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.from_numpy(vectors_N_D).to(torch.float32) @ query_T_D.T


def _passages(similarities_N_T: np.ndarray, starts_P: np.ndarray, rows_P: np.ndarray, block_rows: int) -> PassageMaxima:
    """Reduce rows to blocks to passages; the pages' rows follow one another without gaps."""
    if not block_rows:
        return PassageMaxima(np.maximum.reduceat(similarities_N_T, starts_P, axis=0), np.arange(len(starts_P)))
    blocks_P = -(-rows_P // block_rows)
    owner_B = np.repeat(np.arange(len(rows_P)), blocks_P)
    first_block_P = np.cumsum(blocks_P) - blocks_P
    starts_B = starts_P[owner_B] + (np.arange(len(owner_B)) - first_block_P[owner_B]) * block_rows
    blocks_B_T = np.maximum.reduceat(similarities_N_T, starts_B, axis=0)
    # Every block opens a passage with the one after it, but a page's last block only if it is the page's only one.
    opens_B = np.arange(len(owner_B)) < (first_block_P + np.maximum(blocks_P - 1, 1))[owner_B]
    opening = np.flatnonzero(opens_B)
    following = np.where(blocks_P[owner_B[opening]] > 1, opening + 1, opening)
    passages_P = np.maximum(blocks_P - 1, 1)
    return PassageMaxima(np.maximum(blocks_B_T[opening], blocks_B_T[following]), np.cumsum(passages_P) - passages_P)


def _runs(segment: PageRows) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Cut the pages into runs of adjoining rows, about `SCAN_ROWS` long: (first row, last row + 1, starts, rows)."""
    starts, stops = segment.starts_P, segment.starts_P + segment.rows_P
    runs = []
    first = 0
    for i in range(1, len(starts) + 1):
        if i == len(starts) or starts[i] != stops[i - 1] or stops[i] - starts[first] > SCAN_ROWS:
            runs.append((int(starts[first]), int(stops[i - 1]), starts[first:i], segment.rows_P[first:i]))
            first = i
    return runs
