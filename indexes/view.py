"""What a reader sees of an index at one moment: the page table in memory, the segments memory-mapped."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from colsearcher.indexes.maxsim import PageRows
from colsearcher.indexes.segment import Segment

# A sample of rows is drawn from pages that have so many times as many.
_SAMPLED_FROM = 8
_PAGES = """
SELECT pages.id, pages.page, page.segment, page.start, page.rows, pages.document_pages, pages.document
FROM pages JOIN page ON page.id = pages.id WHERE page.rows > 0 ORDER BY page.segment, page.start
"""


@dataclass(frozen=True)
class PageView:
    """All visible pages that have vectors, in the order of their storage, as parallel arrays of length P.

    A page's place in these arrays is its position. `last_P` is the number of pages of each page's document; `order_P` each
    page's place when sorted by (document, page): what breaks ties.
    """

    version: tuple[int, int]
    ids_P: np.ndarray
    numbers_P: np.ndarray
    segment_P: np.ndarray
    starts_P: np.ndarray
    rows_P: np.ndarray
    last_P: np.ndarray
    documents_P: list[str]
    order_P: np.ndarray
    segments: Mapping[int, Segment]

    @classmethod
    def load(cls, db: sqlite3.Connection, folder: Path, version: tuple[int, int], previous: PageView | None) -> Self:
        """Read the page table, inside a transaction, and map its segments, keeping those that are mapped already.

        Raises:
            FileNotFoundError: a compaction removed a segment file after the transaction began.
        """
        rows = db.execute(_PAGES).fetchall()
        files = dict(db.execute("SELECT id, file FROM segment"))
        # By file, whose name is never used twice; SQLite gives the id of a removed segment to the next one.
        known = {segment.path.name: segment for segment in previous.segments.values()} if previous else {}
        numbers = np.array([row[:6] for row in rows], dtype=np.int64).reshape(-1, 6)
        documents = [row[6] for row in rows]
        used = np.unique(numbers[:, 2]).tolist()
        segments = {i: known[files[i]] if files[i] in known else Segment(folder / files[i]) for i in used}
        _, document_order = np.unique(np.array(documents, dtype=object), return_inverse=True)
        order = np.empty(len(rows), dtype=np.int64)
        order[np.lexsort((numbers[:, 1], document_order))] = np.arange(len(rows))
        ids, pages, segment, starts, counts, last = (np.ascontiguousarray(column) for column in numbers.T)
        return cls(version, ids, pages, segment, starts, counts, last, documents, order, segments)

    def __len__(self) -> int:
        return len(self.ids_P)

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Rising positions of those of the page ids that are visible and have vectors."""
        return np.flatnonzero(np.isin(self.ids_P, ids))

    def centre_scores(self, positions: np.ndarray, direction_D_Q: np.ndarray) -> np.ndarray:
        """(P, Q) float32: inner products of the centres of pages, from which their codes count, with directions."""
        return self._centres[positions] @ direction_D_Q if len(positions) < len(self) else self._centres @ direction_D_Q

    @functools.cached_property
    def _centres(self) -> np.ndarray:
        """(P, D) float32."""
        cuts = np.flatnonzero(np.diff(self.segment_P)) + 1
        groups = np.split(np.arange(len(self)), cuts) if len(self) else []
        return np.concatenate([self.segments[int(self.segment_P[own[0]])].centres(self.starts_P[own]) for own in groups])

    def sample_vectors(self, count: int) -> np.ndarray:
        """(at most count, D) float32 rows of random pages, the same ones every time; a few times as many are read."""
        rng = np.random.default_rng(0)
        order = rng.permutation(len(self))
        enough = int(np.searchsorted(np.cumsum(self.rows_P[order]), _SAMPLED_FROM * count)) + 1
        pages = np.sort(order[:enough])
        first_rows = np.concatenate([[0], np.cumsum(self.rows_P[pages])])
        total = int(first_rows[-1])
        chosen = np.arange(total) if total <= count else np.sort(rng.choice(total, count, replace=False))
        cuts = np.searchsorted(chosen, first_rows)
        sampled = np.empty((len(chosen), next(iter(self.segments.values())).storage.dim if len(self) else 0), dtype=np.float32)
        for page, start, at, to in zip(
            pages.tolist(), first_rows.tolist(), cuts[:-1].tolist(), cuts[1:].tolist(), strict=False
        ):
            first, segment = int(self.starts_P[page]), self.segments[int(self.segment_P[page])]
            vectors = segment.vectors(slice(first, first + int(self.rows_P[page])))
            sampled[at:to] = vectors[chosen[at:to] - start]
        return sampled

    def stored(self, positions: np.ndarray, *, originals: bool) -> list[PageRows]:
        """The stored vectors of pages at rising positions: float16 originals or codes."""
        if len(positions) == len(self):
            return self._all_originals if originals else self._all_codes
        return self._group(positions, originals)

    @functools.cached_property
    def _all_originals(self) -> list[PageRows]:
        return self._group(np.arange(len(self)), originals=True)

    @functools.cached_property
    def _all_codes(self) -> list[PageRows]:
        return self._group(np.arange(len(self)), originals=False)

    def _group(self, positions: np.ndarray, originals: bool) -> list[PageRows]:
        cuts = np.flatnonzero(np.diff(self.segment_P[positions])) + 1
        groups = []
        for own in np.split(positions, cuts) if len(positions) else []:
            segment = self.segments[int(self.segment_P[own[0]])]
            encoded = segment.originals if originals else segment.encoded
            assert encoded is not None, "the plan asks for originals only where they are kept"
            groups.append(PageRows(f"{segment.path.name}:{originals}", encoded, self.starts_P[own], self.rows_P[own]))
        return groups
