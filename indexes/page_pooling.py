"""Storing fewer vectors of a page: each stands for several patches or words, and the page remembers for which.

Vectors of special tokens stay as they are, the others are summed up by `pooling`. What is stored are the pooled vectors at
length 1, without their reach: a page's score is then MaxSim over them, and pages of one index are pooled alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import numpy as np

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.places import MOST_OWNERS
from colsearcher.indexes.pooling import Method, Pooled, pool
from colsearcher.indexes.records import PageEmbedding, Places

_LARGEST = 999
# Tiles without a word are left out, so more have to be asked for; a page is tiled again at most so many times.
_TILINGS = 6


@dataclass(frozen=True)
class PagePooling:
    """How pages are pooled: by which method, and how many vectors one pooled vector stands for on average."""

    method: Method
    size: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read "cluster:3" or "spatial:3"; None for "" and "none".

        >>> PagePooling.parse("cluster:3")
        PagePooling(method='cluster', size=3)

        Raises:
            UserError: it is nothing of these.
        """
        if text in ("", "none"):
            return None
        match = re.fullmatch(r"(cluster|spatial):(\d{1,3})", text)
        if not match or int(match[2]) < 2:
            raise UserError(
                f"«{text}» is no way of pooling; write cluster:N or spatial:N with N from 2 to {_LARGEST}, "
                "such as cluster:3, or none."
            )
        return cls("cluster" if match[1] == "cluster" else "spatial", int(match[2]))

    def __str__(self) -> str:
        return f"{self.method}:{self.size}"

    def apply(self, page: PageEmbedding) -> PageEmbedding:
        """The page pooled, its special vectors last; a page that is pooled already, or has no other vectors, as it is."""
        placed = np.flatnonzero(~page.special)
        if page.places is not None or not len(placed):
            return page
        boxes = page.boxes[placed]
        pooled = self._pool(page.vectors[placed], boxes)
        around = np.tile(np.array([1, 1, 0, 0], dtype=np.float32), (len(pooled.vectors), 1))
        np.minimum.at(around[:, :2], pooled.owner, boxes[:, :2])
        np.maximum.at(around[:, 2:], pooled.owner, boxes[:, 2:])
        return PageEmbedding(
            np.concatenate([pooled.vectors, page.vectors[page.special].astype(np.float32)]),
            np.concatenate([around, page.boxes[page.special]]),
            np.repeat([False, True], [len(pooled.vectors), int(page.special.sum())]),
            Places(boxes.astype(np.float32, copy=False), pooled.owner.astype(np.int64)),
        )

    def _pool(self, vectors_N_D: np.ndarray, boxes_N_4: np.ndarray) -> Pooled:
        n = len(vectors_N_D)
        wanted = min(-(-n // self.size), MOST_OWNERS)
        if self.method == "cluster":
            return pool(vectors_N_D, wanted, seeds="far")
        low, high = boxes_N_4[:, :2].min(0), boxes_N_4[:, 2:].max(0)
        boxes = (boxes_N_4 - np.tile(low, 2)) / np.tile(np.maximum(high - low, 1e-6), 2)  # margins need no tiles
        if (boxes[:, :2] <= 0).all():
            return pool(vectors_N_D, wanted, method="spatial")  # places that cannot be told apart: by their order
        best = pool(vectors_N_D, wanted, boxes=boxes, method="spatial")
        few, many, asked = wanted, min(n, MOST_OWNERS), wanted * wanted // len(best.vectors)
        for _ in range(_TILINGS):
            if len(best.vectors) >= 0.95 * wanted or many - few < 2:
                break
            asked = min(max(asked, few + 1), many - 1)
            tried = pool(vectors_N_D, asked, boxes=boxes, method="spatial")
            if len(tried.vectors) > wanted:
                many = asked
            else:
                few, best = asked, max(best, tried, key=lambda pooled: len(pooled.vectors))
            asked = asked * wanted // len(tried.vectors)
        return best
