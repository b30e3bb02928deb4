"""A page's vectors summed up in a few: what a search for candidate pages looks at before the page itself is scored.

Each pooled vector is the mean, brought to length 1, of the page's vectors in one group. Two ways of grouping:

* `cluster`: vectors that point alike, by k-means on the sphere (Dhillon & Modha 2001) started from rows spread evenly over the
  page. Most of its steps look at a sample of the rows, so it costs little more than one assignment.
* `spatial`: vectors that stand near one another, by tiles of the page where boxes are given, else by runs of adjoining rows.

Both give the same groups for the same page every time, and neither makes an empty group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

Method = Literal["cluster", "spatial"]

# Steps of k-means: all but the last see this many rows a group.
_STEPS = 4
_SAMPLE_PER_GROUP = 8
# Sums of unit vectors shorter than this have no direction to speak of.
_NO_DIRECTION = 1e-6


@dataclass(frozen=True)
class Pooled:
    """A pooled page.

    Attributes:
        vectors: (g, D) float32, L2-normalised.
        owner: (n,) uint16, the pooled vector that stands for each row of the page.
    """

    vectors: np.ndarray
    owner: np.ndarray


def groups_for(rows: int) -> int:
    """How many groups a page of so many vectors gets: one for about 13 of them, 16 at least and 40 at most.

    In proportion, because a page with coarser groups than its neighbour's has duller pooled vectors and loses to it; bounded,
    because the pooled vectors of a page of 1,030 patches have to stay a small part of it.

    >>> [groups_for(rows) for rows in (5, 300, 1030)]
    [16, 23, 40]
    """
    return min(40, max(16, rows // 13))


def pool(vectors_N_D: np.ndarray, groups: int, *, boxes: np.ndarray | None = None, method: Method = "cluster") -> Pooled:
    """At most `groups` pooled vectors of one page, every group with at least one row.

    A page with no more vectors than groups keeps its own.

    Args:
        vectors_N_D: (n, D) float, L2-normalised; n may be 0.
        groups: 1 to 65,536.
        boxes: (n, 4) x0, y0, x1, y1 in fractions of the page, for `spatial`; rows whose box is the whole page (special
            tokens) are a group of their own.
        method: "cluster" or "spatial".

    Raises:
        ValueError: `groups` is not in its range.

    >>> page = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> pool(page, 2).owner.tolist(), pool(page, 2, method="spatial").owner.tolist()
    ([1, 0, 1, 0], [0, 0, 1, 1])
    """
    if not 1 <= groups <= 1 << 16:
        raise ValueError(f"{groups} groups; a page is pooled to 1 to 65,536.")
    vectors = np.array(vectors_N_D, dtype=np.float32, order="C")
    n = len(vectors)
    if n <= groups:
        return Pooled(vectors, np.arange(n, dtype=np.uint16))
    if method == "cluster":
        owner = _clusters(vectors, groups)
    elif boxes is None:
        owner = (np.arange(n) * groups // n).astype(np.int32)
    else:
        owner = _tiles(boxes, groups)
    used, owner = _without_gaps(owner)
    return Pooled(_unit_means(vectors, owner, used), owner.astype(np.uint16))


def pool_pages(
    vectors_N_D: np.ndarray,
    starts_P: np.ndarray,
    rows_P: np.ndarray,
    groups_of: Callable[[int], int] = groups_for,
    *,
    method: Method = "cluster",
) -> tuple[np.ndarray, np.ndarray]:
    """Pool many pages of one array: page i owns the rows starts_P[i] … starts_P[i] + rows_P[i].

    Only the rows of one page at a time are widened to float32, so `vectors_N_D` may be a memory-mapped float16 segment.

    Returns:
        (G, D) float32 pooled vectors, and (G,) int64, the number i of the page of each; a page without rows has none.
    """
    pages = [
        pool(vectors_N_D[start : start + rows], groups_of(rows), method=method).vectors
        for start, rows in zip(starts_P.tolist(), rows_P.tolist(), strict=True)
    ]
    pooled = np.concatenate(pages) if pages else np.empty((0, vectors_N_D.shape[1]), dtype=np.float32)
    return pooled, np.repeat(np.arange(len(pages)), [len(page) for page in pages])


def _clusters(vectors_N_D: np.ndarray, groups: int) -> np.ndarray:
    """(n,) int32: the group of each row by k-means; a group may be empty."""
    n = len(vectors_N_D)
    centroids = vectors_N_D[(2 * np.arange(groups) + 1) * n // (2 * groups)]
    sample = np.ascontiguousarray(vectors_N_D[:: max(1, n // (_SAMPLE_PER_GROUP * groups))])
    for _ in range(_STEPS - 1):
        centroids = _moved(sample, sample @ centroids.T)
    return _nearest(vectors_N_D @ centroids.T)[0]


def _tiles(boxes_N_4: np.ndarray, groups: int) -> np.ndarray:
    """(n,) int32: the tile of the page that each box's centre lies in; a tile may be empty.

    The page is cut so that a tile has about as many boxes across as down: boxes of patches are square on paper but not in
    fractions of a page.
    """
    x0, y0, x1, y1 = boxes_N_4.T
    whole_page = (x0 <= 0) & (y0 <= 0) & (x1 >= 1) & (y1 >= 1)
    if whole_page.all():
        return np.zeros(len(boxes_N_4), dtype=np.int32)
    placed_groups = groups - 1 if whole_page.any() and groups > 1 else groups
    width, height = np.maximum(np.median((boxes_N_4[:, 2:] - boxes_N_4[:, :2])[~whole_page], axis=0), 1e-4)
    columns = min(placed_groups, max(1, round(float(np.sqrt(placed_groups * height / width)))))
    lines = placed_groups // columns
    column = np.clip((x0 + x1) / 2 * columns, 0, columns - 1).astype(np.int32)
    line = np.clip((y0 + y1) / 2 * lines, 0, lines - 1).astype(np.int32)
    return np.where(whole_page, groups - 1, line * columns + column).astype(np.int32)


def _without_gaps(owner_N: np.ndarray) -> tuple[int, np.ndarray]:
    """The number of groups that have rows, and the groups renumbered 0, 1, … in their order."""
    has_rows = np.bincount(owner_N) > 0
    return int(has_rows.sum()), (np.cumsum(has_rows) - 1)[owner_N]


def _unit_means(vectors_N_D: np.ndarray, owner_N: np.ndarray, groups: int) -> np.ndarray:
    """(groups, D) float32; a group whose vectors cancel out is stood for by its first row."""
    means = np.zeros((groups, vectors_N_D.shape[1]), dtype=np.float32)
    _add_up(vectors_N_D, owner_N, means)
    lengths = np.linalg.norm(means, axis=1)
    for lost in np.flatnonzero(lengths < _NO_DIRECTION):
        means[lost] = vectors_N_D[int(np.argmax(owner_N == lost))]
        lengths[lost] = 1
    return means / lengths[:, None]


def _moved(vectors_N_D: np.ndarray, similarities_N_G: np.ndarray) -> np.ndarray:
    """(G, D) the unit means of the rows nearest to each centroid; an empty group moves to a row that is far from all."""
    owner, best = _nearest(similarities_N_G)
    groups = similarities_N_G.shape[1]
    empty = np.flatnonzero(np.bincount(owner, minlength=groups) == 0)
    if len(empty):
        owner[np.argsort(best, kind="stable")[: len(empty)]] = empty
    return _unit_means(vectors_N_D, owner, groups)


@numba.njit(nogil=True, cache=True)
def _nearest(similarities_N_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The column of each row's largest value, the first of equals, and the value."""
    n, groups = similarities_N_G.shape
    owner = np.zeros(n, dtype=np.int32)
    best = similarities_N_G[:, 0].copy()
    for i in range(n):
        for j in range(1, groups):
            if similarities_N_G[i, j] > best[i]:
                best[i] = similarities_N_G[i, j]
                owner[i] = j
    return owner, best


@numba.njit(nogil=True, cache=True)
def _add_up(vectors_N_D: np.ndarray, owner_N: np.ndarray, sums_G_D: np.ndarray) -> None:
    for i in range(len(vectors_N_D)):
        for d in range(vectors_N_D.shape[1]):
            sums_G_D[owner_N[i], d] += vectors_N_D[i, d]
