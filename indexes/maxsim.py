"""Exact late interaction: the score of a page is the weighted sum over query vectors of their best match on the page.

    score(q, p) = sum_t  w_t · max_n  q_t · p_n        (ColBERT, Khattab & Zaharia 2020, with query weights)

Pages are ragged and never padded; stored float16 values are widened to float32 before they are multiplied, and sums run in
float32. A scan of all pages multiplies big blocks, whose rounding depends on their shape; pages that can reach the top are
then scored again one at a time (`page_score`), so a reported score depends on the page and the query and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 32_768
# Blocked float32 sums of 384 products in [-1, 1] differ from one another by less than this per unit of weight.
SCAN_SLACK = 1e-4


@dataclass(frozen=True)
class PageRows:
    """Pages of one segment: page i owns rows starts_P[i] … starts_P[i] + rows_P[i] of its vectors, in rising order."""

    vectors_N_D: np.ndarray
    starts_P: np.ndarray
    rows_P: np.ndarray


def page_maxima(vectors_N_D: np.ndarray, query_T_D: np.ndarray) -> np.ndarray:
    """(T,) float32, the best inner product of each query vector on one page of n >= 1 vectors."""
    import torch

    return _similarities(vectors_N_D, torch.from_numpy(query_T_D)).amax(0).numpy()


def page_score(vectors_N_D: np.ndarray, query_T_D: np.ndarray, weights_T: np.ndarray) -> float:
    """The MaxSim score of one page. A page without vectors scores 0.

    >>> page = np.array([[1, 0], [0.6, 0.8]], dtype=np.float16)
    >>> query = np.array([[0, 1], [1, 0]], dtype=np.float32)
    >>> round(page_score(page, query, np.array([1, 1], dtype=np.float32)), 3)     # 0.8 + 1
    1.8
    >>> round(page_score(page, query, np.array([1, 0.5], dtype=np.float32)), 3)   # 0.8 + 0.5
    1.3
    """
    if len(vectors_N_D) == 0:
        return 0.0
    return float(np.dot(page_maxima(vectors_N_D, query_T_D).astype(np.float64), weights_T.astype(np.float64)))


def scan(segments: Sequence[PageRows], query_T_D: np.ndarray) -> np.ndarray:
    """Best inner product of each query vector on each page, to within `SCAN_SLACK`.

    Args:
        segments: the pages to score, all with at least one vector.
        query_T_D: float32 query vectors, those of several queries may be stacked.

    Returns:
        (pages of all segments in order, T) float32.
    """
    import torch

    query = torch.from_numpy(query_T_D)
    blocks = [
        np.maximum.reduceat(_similarities(rows, query).numpy(), offsets, axis=0)
        for segment in segments
        for rows, offsets in _blocks(segment)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, len(query_T_D)), dtype=np.float32)


def _similarities(vectors_N_D: np.ndarray, query_T_D: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.from_numpy(vectors_N_D).to(torch.float32) @ query_T_D.T


def _blocks(segment: PageRows) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut the pages into runs of consecutive rows of about `BLOCK_ROWS`, with each page's offset in its run."""
    starts, stops = segment.starts_P, segment.starts_P + segment.rows_P
    blocks = []
    first = 0
    for i in range(1, len(starts) + 1):
        if i == len(starts) or starts[i] != stops[i - 1] or stops[i] - starts[first] > BLOCK_ROWS:
            blocks.append((segment.vectors_N_D[starts[first] : stops[i - 1]], starts[first:i] - starts[first]))
            first = i
    return blocks
