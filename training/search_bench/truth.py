"""The exact answers: MaxSim in float32 of every page, in blocks, for all queries at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from colsearcher.training.search_bench.page_vectors import PageVectors

BLOCK_ROWS = 16_384


def exact_scores(pages: PageVectors, queries: Sequence[np.ndarray]) -> np.ndarray:
    """(P, Q) float32, the sum over a query's vectors of the best inner product in the page."""
    import torch

    query_D_T = torch.from_numpy(np.concatenate(queries)).T.contiguous()
    firsts = np.cumsum([0, *map(len, queries[:-1])])
    scores = np.empty((len(pages), len(queries)), dtype=np.float32)
    for first, stop in page_blocks(pages.offsets_P1, BLOCK_ROWS):
        start, end = pages.offsets_P1[first], pages.offsets_P1[stop]
        block = torch.from_numpy(np.asarray(pages.vectors_N_D[start:end], dtype=np.float32))
        lengths = torch.from_numpy(pages.lengths_P[first:stop])
        best = torch.segment_reduce(block @ query_D_T, "max", lengths=lengths, axis=0)
        scores[first:stop] = np.add.reduceat(best.numpy(), firsts, axis=1)
    return scores


def best_pages(scores_P_Q: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) int64 page numbers, best first; of equal scores the earlier page."""
    return np.argsort(-scores_P_Q.T, axis=1, kind="stable")[:, :k]


def page_blocks(offsets_P1: np.ndarray, rows: int) -> list[tuple[int, int]]:
    """First page and last page + 1 of runs of whole pages of about so many rows.

    >>> page_blocks(np.array([0, 5, 9, 20, 21]), 9)
    [(0, 2), (2, 3), (3, 4)]
    """
    cuts = np.searchsorted(offsets_P1, np.arange(0, offsets_P1[-1], rows))
    return list(itertools.pairwise(dict.fromkeys([*cuts.tolist(), len(offsets_P1) - 1])))
