"""What a reader sees of an index at one moment: the page table in memory, the segments memory-mapped, and the ranking."""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from colsearcher.indexes import lexical
from colsearcher.indexes.maxsim import SCAN_SLACK, PageRows, page_score, scan
from colsearcher.indexes.ranking import Ranking, combine, named_pages, vector_weights
from colsearcher.indexes.records import Hit, QueryEmbedding, SearchResult
from colsearcher.indexes.segment import Segment

_PAGES = """
SELECT pages.id, pages.document, pages.page, page.segment, page.start, page.rows, pages.document_pages
FROM pages JOIN page ON page.id = pages.id WHERE page.rows > 0 ORDER BY page.segment, page.start
"""


@dataclass(frozen=True)
class PageView:
    """All visible pages that have vectors, in the order of their storage, as parallel arrays of length P.

    `last_P` is the number of pages of each page's document; `order_P` each page's place when sorted by (document, page):
    what breaks ties.
    """

    version: tuple[int, int]
    block_rows: int
    ids_P: np.ndarray
    documents_P: list[str]
    numbers_P: np.ndarray
    segment_P: np.ndarray
    starts_P: np.ndarray
    rows_P: np.ndarray
    last_P: np.ndarray
    order_P: np.ndarray
    segments: Mapping[int, Segment]

    @classmethod
    def load(
        cls,
        db: sqlite3.Connection,
        folder: Path,
        block_rows: int,
        version: tuple[int, int],
        previous: PageView | None,
    ) -> Self:
        """Read the page table, inside a transaction, and map its segments, keeping those that are mapped already.

        Raises:
            FileNotFoundError: a compaction removed a segment file after the transaction began.
        """
        rows = db.execute(_PAGES).fetchall()
        files = dict(db.execute("SELECT id, file FROM segment"))
        # By file, whose name is never used twice; SQLite gives the id of a removed segment to the next one.
        known = {segment.path.name: segment for segment in previous.segments.values()} if previous else {}
        used = sorted({row[3] for row in rows})
        segments = {i: known[files[i]] if files[i] in known else Segment(folder / files[i]) for i in used}
        column = lambda i: np.array([row[i] for row in rows], dtype=np.int64)  # noqa: E731
        order = np.empty(len(rows), dtype=np.int64)
        order[sorted(range(len(rows)), key=lambda i: (rows[i][1], rows[i][2]))] = np.arange(len(rows))
        documents = [row[1] for row in rows]
        columns = (column(0), documents, column(2), column(3), column(4), column(5), column(6))
        return cls(version, block_rows, *columns, order, segments)

    def search(
        self, db: sqlite3.Connection, queries: Sequence[QueryEmbedding], k: int, allowed: set[int] | None, ranking: Ranking
    ) -> list[SearchResult]:
        """See `PageIndex.search`; `allowed` are the page ids that passed the filter, None for all."""
        started = time.perf_counter()
        chosen = np.arange(len(self.ids_P))
        if allowed is not None:
            chosen = np.flatnonzero(np.isin(self.ids_P, list(allowed)))
        plan = {
            "engine": "exact",
            "ranking": ranking,
            "pages": len(chosen),
            "vectors": int(self.rows_P[chosen].sum()),
            "reason": "exact is the only engine so far: every page that passes the filter is scored",
        }
        weights = [vector_weights(query, functools.partial(lexical.rarity, db)) for query in queries]
        late_P_Q = np.zeros((len(chosen), len(queries)))
        if ranking != "words":
            stacked_T_D = np.concatenate([query.vectors for query in queries])
            late_P_Q = scan(self._page_rows(chosen), stacked_T_D, _columns(weights), self.block_rows)
        scan_ms = (time.perf_counter() - started) * 1000
        results = []
        for query, weights_T, late_P in zip(queries, weights, late_P_Q.T, strict=True):
            at = time.perf_counter()
            hits = self._rank(db, query, weights_T, k, chosen, late_P, ranking) if len(chosen) else []
            timing = {"scan": round(scan_ms, 2), "rank": round((time.perf_counter() - at) * 1000, 2)}
            results.append(SearchResult(tuple(hits), plan, timing))
        return results

    def _rank(
        self,
        db: sqlite3.Connection,
        query: QueryEmbedding,
        weights_T: np.ndarray,
        k: int,
        chosen: np.ndarray,
        late_P: np.ndarray,
        ranking: Ranking,
    ) -> list[Hit]:
        words = lexical.word_scores(db, query.text, self.ids_P[chosen])
        named = named_pages(query.text, self.numbers_P[chosen], self.last_P[chosen])
        rough = _total(combine(ranking, late_P, words, named))
        kth = np.partition(rough, -k)[-k] if k < len(rough) else -np.inf
        near = np.flatnonzero(rough >= kth - 2 * SCAN_SLACK)
        late = late_P[near]
        if ranking != "words":
            vectors = (self._vectors(chosen[i]) for i in near)
            late = np.array([page_score(v, query.vectors, weights_T, self.block_rows) for v in vectors])
        parts = combine(ranking, late, words[near], named[near])
        scores = _total(parts)
        best = np.lexsort((self.order_P[chosen[near]], -scores))[:k]
        return [
            Hit(
                self.documents_P[chosen[near[i]]],
                int(self.numbers_P[chosen[near[i]]]),
                float(scores[i]),
                self._metadata(db, int(self.ids_P[chosen[near[i]]])),
                {name: float(values[i]) for name, values in parts.items()},
            )
            for i in best
        ]

    def _page_rows(self, chosen: np.ndarray) -> list[PageRows]:
        groups = []
        for segment in np.unique(self.segment_P[chosen]):
            own = chosen[self.segment_P[chosen] == segment]
            groups.append(PageRows(self.segments[int(segment)].vectors, self.starts_P[own], self.rows_P[own]))
        return groups

    def _vectors(self, i: int) -> np.ndarray:
        start = self.starts_P[i]
        return self.segments[int(self.segment_P[i])].vectors[start : start + self.rows_P[i]]

    def _metadata(self, db: sqlite3.Connection, page_id: int) -> dict[str, object]:
        return json.loads(db.execute("SELECT metadata FROM pages WHERE id = ?", (page_id,)).fetchone()[0])


def _total(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(parts.values()), axis=0)


def _columns(weights: Sequence[np.ndarray]) -> np.ndarray:
    """The weights of several queries as columns over their stacked vectors."""
    columns_T_Q = np.zeros((sum(map(len, weights)), len(weights)))
    row = 0
    for q, weights_T in enumerate(weights):
        columns_T_Q[row : row + len(weights_T), q] = weights_T
        row += len(weights_T)
    return columns_T_Q
