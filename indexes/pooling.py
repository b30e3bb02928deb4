"""A page's vectors summed up in a few: what a search for candidate pages looks at before the page itself is scored.

A pooled vector is the mean, brought to length 1, of the page's vectors in one group. Two ways of grouping:

* `cluster`: vectors that point alike, by k-means on the sphere (Dhillon & Modha 2001), either from rows spread evenly over the
  page, or from rows each of which is as unlike the others as any (farthest-first traversal; Gonzalez 1985). Most of a page is
  alike, such as its white, so evenly spread rows leave few groups to what is rare on it, and those reach beyond its edges;
* `spatial`: vectors that stand near one another, by tiles of the page where boxes are given, else by runs of adjoining rows.

The best of n vectors matches a query better than their mean does. If they scatter evenly around it in D directions, then by
about sqrt(2 ln n · (1 - r²) / D), where r is the length of their mean (the expected maximum of n normal values; Cramér 1946).
A measured share of that is kept as the group's `reach`: without it pages of few vectors, whose groups are small, are found in
place of pages of many. What matches well has an inner product near a half, so lengthening the pooled vector by twice its reach
adds the reach where it counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

Method = Literal["cluster", "spatial"]
Seeds = Literal["spread", "far"]

# Real vectors scatter in fewer directions than they have, and not all normally.
_REACH = 0.7
# All steps of k-means but the last look at about this many rows a group.
_STEPS = 4
_SAMPLE_PER_GROUP = 8
# A matrix product of fewer multiplications is left to one thread by OpenBLAS: waking a second costs more than it saves.
_ONE_THREAD = 262_144
# Sums of unit vectors shorter than this have no direction.
_NO_DIRECTION = 1e-6


@dataclass(frozen=True)
class Pooled:
    """A pooled page of n vectors.

    Attributes:
        vectors: (g, D) float32, L2-normalised.
        reach: (g,) float32, how much better than the pooled vector the best of its group is expected to match; 0 to 1.
        owner: (n,) uint16, the pooled vector that stands for each vector of the page.
    """

    vectors: np.ndarray
    reach: np.ndarray
    owner: np.ndarray


def groups_for(rows: int) -> int:
    """How many groups a page of so many vectors gets: one for about 13 of them, 16 at least and 40 at most.

    In proportion, because the coarser a page's groups the duller its pooled vectors; bounded, because they are searched in
    place of the page.

    >>> [groups_for(rows) for rows in (5, 300, 1030)]
    [16, 23, 40]
    """
    return min(40, max(16, rows // 13))


def pool(
    vectors_N_D: np.ndarray,
    groups: int,
    *,
    boxes: np.ndarray | None = None,
    method: Method = "cluster",
    seeds: Seeds = "spread",
) -> Pooled:
    """Sum up one page in at most `groups` pooled vectors, each of at least one row; the same for the same page every time.

    A page with no more vectors than groups keeps its own.

    Args:
        vectors_N_D: (n, D) float, L2-normalised; n may be 0.
        groups: 1 to 65,536.
        boxes: (n, 4) x0, y0, x1, y1 in fractions of the page, for `spatial`; rows whose box is the whole page (special
            tokens) are a group of their own.
        method: "cluster" or "spatial".
        seeds: the rows that clusters start from, spread over the page or far from each other.

    Raises:
        ValueError: `groups` is not in its range.

    >>> page = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> pool(page, 2, method="spatial").owner.tolist()
    [0, 0, 1, 1]
    """
    if not 1 <= groups <= 1 << 16:
        raise ValueError(f"{groups} groups; a page is pooled to 1 to 65,536.")
    vectors = np.ascontiguousarray(vectors_N_D, dtype=np.float32)
    n = len(vectors)
    if n <= groups:
        return Pooled(vectors, np.zeros(n, dtype=np.float32), np.arange(n, dtype=np.uint16))
    if method == "cluster":
        owner = _clusters(vectors, groups, seeds)
    elif boxes is None:
        owner = np.arange(n) * groups // n
    else:
        owner = _tiles(boxes, groups)
    owner = _without_gaps(owner)
    means = _means(vectors, owner, int(owner.max()) + 1)
    return Pooled(means.directions(vectors, owner), means.reach(), owner.astype(np.uint16))


def pool_pages(
    vectors_N_D: np.ndarray,
    starts_P: np.ndarray,
    rows_P: np.ndarray,
    groups_of: Callable[[int], int] = groups_for,
    *,
    method: Method = "cluster",
) -> tuple[np.ndarray, np.ndarray]:
    """Pool many pages of one array: page i owns the rows starts_P[i] … starts_P[i] + rows_P[i].

    The rows of one page at a time are widened to float32, so `vectors_N_D` may be a memory-mapped file of float16.

    Returns:
        (G, D) float32, each pooled vector, longer than 1 by twice its reach: what `CandidateIndex.build` takes; and (G,) int64,
        the number i of the page of each. A page without rows has none.
    """
    parts, counts = [np.empty((0, vectors_N_D.shape[1]), dtype=np.float32)], []
    for start, rows in zip(starts_P.tolist(), rows_P.tolist(), strict=True):
        pooled = pool(vectors_N_D[start : start + rows], groups_of(rows), method=method)
        parts.append(pooled.vectors * (1 + 2 * pooled.reach[:, None]))
        counts.append(len(pooled.vectors))
    return np.concatenate(parts), np.repeat(np.arange(len(counts)), counts)


@dataclass(frozen=True)
class _Means:
    """Sums (G, D) and numbers (G,) of the rows of groups."""

    sums: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray

    def directions(self, vectors_N_D: np.ndarray, owner_N: np.ndarray) -> np.ndarray:
        """(G, D) unit vectors; a group whose rows cancel out is stood for by its first."""
        directions = self.sums / np.maximum(self.lengths, _NO_DIRECTION)[:, None]
        for group in np.flatnonzero(self.lengths < _NO_DIRECTION):
            directions[group] = vectors_N_D[np.argmax(owner_N == group)]
        return directions

    def reach(self) -> np.ndarray:
        scatter = np.maximum(0, 1 - (self.lengths / self.counts) ** 2)
        return (_REACH * np.sqrt(2 * np.log(self.counts) * scatter / self.sums.shape[1])).astype(np.float32)


def _means(vectors_N_D: np.ndarray, owner_N: np.ndarray, groups: int) -> _Means:
    sums = np.zeros((groups, vectors_N_D.shape[1]), dtype=np.float32)
    _add_up(vectors_N_D, owner_N, sums)
    return _Means(sums, np.bincount(owner_N, minlength=groups), np.sqrt(np.einsum("gd,gd->g", sums, sums)))


def _clusters(vectors_N_D: np.ndarray, groups: int, seeds: Seeds) -> np.ndarray:
    """(n,) the group of each row by k-means; a group may be empty."""
    n = len(vectors_N_D)
    spread = (2 * np.arange(groups) + 1) * n // (2 * groups)
    centroids = vectors_N_D[spread if seeds == "spread" else _far_apart(vectors_N_D, groups)]
    sample = np.ascontiguousarray(vectors_N_D[:: max(1, n // (_SAMPLE_PER_GROUP * groups))])
    for _ in range(_STEPS - 1):
        owner, best = _nearest(_products(sample, centroids))
        empty = np.flatnonzero(np.bincount(owner, minlength=groups) == 0)
        owner[np.argsort(best, kind="stable")[: len(empty)]] = empty  # they start again from what no group stands for
        centroids = _means(sample, owner, groups).directions(sample, owner)
    return _nearest(_products(vectors_N_D, centroids))[0]


def _far_apart(vectors_N_D: np.ndarray, groups: int) -> np.ndarray:
    """(g,) rows: the least like the mean, and then always the row that is least like the most similar one chosen so far."""
    rows = np.empty(groups, dtype=np.int64)
    rows[0] = np.argmin(vectors_N_D @ vectors_N_D.mean(0))
    nearest_N = vectors_N_D @ vectors_N_D[rows[0]]
    for i in range(1, groups):
        rows[i] = np.argmin(nearest_N)
        np.maximum(nearest_N, vectors_N_D @ vectors_N_D[rows[i]], out=nearest_N)
    return rows


def _tiles(boxes_N_4: np.ndarray, groups: int) -> np.ndarray:
    """(n,) the tile of the page that each box's centre lies in; a tile may be empty.

    Tiles have about as many boxes across as down: patches are square on paper, but not in fractions of a page.
    """
    x0, y0, x1, y1 = boxes_N_4.T
    whole_page = (x0 <= 0) & (y0 <= 0) & (x1 >= 1) & (y1 >= 1)
    if whole_page.all():
        return np.zeros(len(boxes_N_4), dtype=np.int64)
    tiles = groups - 1 if whole_page.any() and groups > 1 else groups
    width, height = np.maximum(np.median((boxes_N_4[:, 2:] - boxes_N_4[:, :2])[~whole_page], axis=0), 1e-4)
    columns = min(tiles, max(1, round(math.sqrt(tiles * height / width))))
    lines = tiles // columns
    column = np.clip((x0 + x1) / 2 * columns, 0, columns - 1).astype(np.int64)
    line = np.clip((y0 + y1) / 2 * lines, 0, lines - 1).astype(np.int64)
    return np.where(whole_page, groups - 1, line * columns + column)


def _without_gaps(owner_N: np.ndarray) -> np.ndarray:
    """The groups that have rows, renumbered 0, 1, … in their order."""
    return (np.cumsum(np.bincount(owner_N) > 0) - 1)[owner_N]


def _products(vectors_N_D: np.ndarray, centroids_G_D: np.ndarray) -> np.ndarray:
    """(N, G) inner products, some rows at a time."""
    n, dim = vectors_N_D.shape
    groups = len(centroids_G_D)
    tile = max(1, _ONE_THREAD // (dim * groups))
    whole = n - n % tile
    products = np.empty((n, groups), dtype=np.float32)
    transposed = np.ascontiguousarray(centroids_G_D.T)
    np.matmul(vectors_N_D[:whole].reshape(-1, tile, dim), transposed, out=products[:whole].reshape(-1, tile, groups))
    np.matmul(vectors_N_D[whole:], transposed, out=products[whole:])
    return products


@numba.njit(nogil=True, cache=True)
def _nearest(similarities_N_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The column of each row's largest value, the first of equals, and the value."""
    n, groups = similarities_N_G.shape
    owner = np.zeros(n, dtype=np.int64)
    best = similarities_N_G[:, 0].copy()
    for i in range(n):
        for j in range(1, groups):
            if similarities_N_G[i, j] > best[i]:
                best[i] = similarities_N_G[i, j]
                owner[i] = j
    return owner, best


@numba.njit(nogil=True, cache=True, fastmath=True)
def _add_up(vectors_N_D: np.ndarray, owner_N: np.ndarray, sums_G_D: np.ndarray) -> None:
    for i in range(len(vectors_N_D)):
        total, row = sums_G_D[owner_N[i]], vectors_N_D[i]
        for d in range(len(row)):
            total[d] += row[d]
