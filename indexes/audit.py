"""`index tune`: how much of the exact top ten each engine finds on sampled queries, and how long it takes here.

What comes out is the cheapest setting that reaches the recall: how many pages to score again after the codes, and for a large
index pooled candidates and how far to look into them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from colsearcher.indexes.candidates import CandidateIndex
from colsearcher.indexes.maxsim import QueryBatch
from colsearcher.indexes.page_search import PageSearch
from colsearcher.indexes.pooling import pool_pages
from colsearcher.indexes.tuning import PooledTuning, Tuning
from colsearcher.indexes.view import PageView

# Fewer pages are scanned as quickly as candidates are found for them.
POOLED_PAGES = 2_000
TOP = 10
_QUERIES_AT_ONCE = 16
_DEPTHS = (10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 800, 1200)
_TIMED_QUERIES = 8
_TIMED_ROWS = 2_000_000
_POOL_PAGES = 256


def audit(
    search: PageSearch,
    folder: Path,
    queries: Sequence[tuple[np.ndarray, np.ndarray]],
    recall: float,
    *,
    pooled_pages: int = POOLED_PAGES,
    tell: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Measure the engines of an index.

    Args:
        search: over the view that is to be audited.
        folder: where candidates are kept.
        queries: (t, D) vectors and (t,) weights of each sampled query.
        recall: the share of the exact top ten that has to be found.
        pooled_pages: make candidates from so many pages on.
        tell: takes one line on each step.
    """
    view, storage = search.view, search.storage
    tell(f"scoring {len(queries)} queries on all {len(view):,} pages exactly")
    exact_P_Q = _scores(search, queries, originals=storage.exact)
    truth = [_top(scores_P, TOP) for scores_P in exact_P_Q.T]
    depth, found = 0, 1.0
    if storage.codec.bits < 16 and storage.exact:
        tell(f"the same from the codes of {storage.codec.name}")
        depth, found = _depth(_scores(search, queries, originals=False), truth, recall)
        tell(f"the best {depth} pages by their codes hold {found:.4f} of the exact top {TOP}")
    scan_ns = {}
    for bits in {16 if storage.exact else storage.codec.bits, storage.codec.bits}:
        scan_ns[str(bits)] = _nanoseconds(search, queries, originals=bits == 16)
    pooled = None
    if len(view) >= pooled_pages:
        pooled = _tune_candidates(search, folder, queries, truth, recall, scan_ns, tell)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Tuning(now, recall, len(queries), len(view), depth, round(found, 4), scan_ns, pooled)


def _scores(search: PageSearch, queries: Sequence[tuple[np.ndarray, np.ndarray]], *, originals: bool) -> np.ndarray:
    """(P, Q) scores of all pages, float32; memory holds one segment at a time."""
    view = search.view
    scores_P_Q = np.empty((len(view), len(queries)), dtype=np.float32)
    for own in np.split(np.arange(len(view)), np.flatnonzero(np.diff(view.segment_P)) + 1):
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            some = queries[first : first + _QUERIES_AT_ONCE]
            batch = QueryBatch.stack([vectors for vectors, _ in some], [weights for _, weights in some])
            scores_P_Q[own, first : first + len(some)] = search.scan(own, batch, originals=originals)
        view.segments[int(view.segment_P[own[0]])].let_go()
    return scores_P_Q


def _top(scores_P: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-scores_P, kind="stable")[:count]


def _depth(rough_P_Q: np.ndarray, truth: Sequence[np.ndarray], recall: float) -> tuple[int, float]:
    """The least depth whose pages hold the share of the truth, and that share."""
    found = 0.0
    for depth in _DEPTHS:
        found = float(np.mean([np.isin(t, _top(rough, depth)).mean() for t, rough in zip(truth, rough_P_Q.T, strict=True)]))
        if found >= recall:
            break
    return depth, found


def _nanoseconds(search: PageSearch, queries: Sequence[tuple[np.ndarray, np.ndarray]], *, originals: bool) -> float:
    """Time to score one vector for one query, on the first pages, some two million vectors."""
    view = search.view
    positions = np.arange(max(1, int(np.searchsorted(np.cumsum(view.rows_P), _TIMED_ROWS))))
    search.scan(positions[:1], QueryBatch.stack(*zip(queries[0], strict=True)), originals=originals)
    times = []
    for vectors, weights in queries[:_TIMED_QUERIES]:
        started = time.perf_counter()
        search.scan(positions, QueryBatch.stack([vectors], [weights]), originals=originals)
        times.append(time.perf_counter() - started)
    for segment in view.segments.values():
        segment.let_go()
    return round(1e9 * float(np.median(times)) / int(view.rows_P[positions].sum()), 3)


def _tune_candidates(
    search: PageSearch,
    folder: Path,
    queries: Sequence[tuple[np.ndarray, np.ndarray]],
    truth: Sequence[np.ndarray],
    recall: float,
    scan_ns: Mapping[str, float],
    tell: Callable[[str], None],
) -> PooledTuning:
    view = search.view
    tell(f"pooling {len(view):,} pages")
    # A version of a document that is not complete yet has no candidates, and its pages are seen later: they count as newer.
    hidden = search.db.execute("SELECT min(id) FROM page WHERE id NOT IN (SELECT id FROM pages)").fetchone()[0]
    newest = int(view.ids_P.max()) if hidden is None else hidden - 1
    name = f"candidates-{newest}-{uuid.uuid4().hex[:8]}"  # never that of another, which searches may be reading
    dim, engines = search.storage.dim, search.engines
    candidates = CandidateIndex.build(
        _pooled(search), dim, len(view), folder=folder / name, device=engines.device, scan=engines.scan
    )
    tell(f"{candidates.kind} of {candidates.bytes / 1e6:,.0f} MB; looking for the least effort")
    rows = float(view.rows_P.mean())
    page_ms = scan_ns[str(search.storage.codec.bits)] * rows / 1e6
    calibrated = candidates.calibrate(queries, [view.ids_P[t] for t in truth], recall, page_ms)
    times = []
    for vectors, weights in queries[:_TIMED_QUERIES]:
        started = time.perf_counter()
        ids, _ = candidates.candidates([(vectors, weights)], calibrated.pages, calibrated.effort)[0]
        search.scan(view.positions(ids), QueryBatch.stack([vectors], [weights]), originals=False)
        times.append(time.perf_counter() - started)
    milliseconds = round(1000 * float(np.median(times)), 2)
    tell(
        f"{calibrated.pages} candidate pages hold {calibrated.recall:.4f} of the exact top {TOP}, {milliseconds:.1f} ms a query"
    )
    effort = calibrated.effort
    return PooledTuning(name, effort.probes, effort.depth, calibrated.pages, calibrated.recall, milliseconds, newest)


def _pooled(search: PageSearch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pooled vectors of all pages, some pages at a time, with the page id of each."""
    view = search.view
    for own in np.split(np.arange(len(view)), np.flatnonzero(np.diff(view.segment_P)) + 1):
        segment = view.segments[int(view.segment_P[own[0]])]
        for first in range(0, len(own), _POOL_PAGES):
            some = own[first : first + _POOL_PAGES]
            start, stop = int(view.starts_P[some[0]]), int(view.starts_P[some[-1]] + view.rows_P[some[-1]])
            vectors = segment.vectors(slice(start, stop)).astype(np.float32)
            pooled_G_D, owner_G = pool_pages(vectors, view.starts_P[some] - start, view.rows_P[some])
            yield pooled_G_D, view.ids_P[some][owner_G]
        segment.let_go()


def sample_queries(search: PageSearch, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Queries made of pages, where there are no questions: 12 to 24 vectors, every one turned a little.

    Every other query is a run of one page, turned to a cosine of about 0.55 with itself; the others are put together from runs
    of 2 to 6 vectors of several pages, turned to about 0.8, so that no page is the obvious one. Together they ask for a few
    more candidates than real questions do (dev/LOG.md, 2026-11-22).
    """
    rng = np.random.default_rng(seed)
    queries = []
    for number in range(count):
        length = int(rng.integers(12, 25))
        parts: list[np.ndarray] = []
        while (missing := length - sum(map(len, parts))) > 0:
            parts.append(_run(search.view, rng, missing if number % 2 == 0 else min(missing, int(rng.integers(2, 7)))))
        vectors = np.concatenate(parts)
        noise = rng.normal(size=vectors.shape).astype(np.float32) * (1.5 if number % 2 == 0 else 0.75)
        vectors = vectors + noise * np.linalg.norm(vectors, axis=1, keepdims=True) / np.sqrt(vectors.shape[1])
        queries.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.full(length, 1 / length)))
    return queries


def _run(view: PageView, rng: np.random.Generator, longest: int) -> np.ndarray:
    """Neighbouring vectors of some page, float32."""
    position = int(rng.integers(len(view)))
    rows = min(longest, int(view.rows_P[position]))
    start = int(view.starts_P[position]) + int(rng.integers(0, view.rows_P[position] - rows + 1))
    return view.segments[int(view.segment_P[position])].vectors(slice(start, start + rows)).astype(np.float32)
