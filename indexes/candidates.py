"""Candidate pages from pooled vectors: which few hundred pages of very many are worth scoring exactly.

For each query vector FAISS finds the nearest pooled vectors of all pages; grouped by page they give a rough score

    score(p) = sum_t  w_t · max(best of p's inner products with q_t that were found, or the lowest found for q_t)

A page that a query vector did not find had nothing better than the last one it found, so that is what the page gets for it:
without it a page would rank by how often it was found and not by how well (Lee et al., XTR, NeurIPS 2023; Scheerer et al.,
WARP, SIGIR 2025).

How far to look is an `Effort`; `CandidateIndex.calibrate` measures the least that reaches a recall.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numba
import numpy as np

from colsearcher.indexes.candidate_store import load_faiss, read_candidates, verify_candidates, write_candidates

_QUERY_BITS = 4
Query = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Effort:
    """How far a search looks.

    Attributes:
        probes: inverted lists that are read for a query vector (`ivf`, `rabitq`), or nodes kept in view (`hnsw`); `flat` reads
            everything.
        depth: pooled vectors that are fetched for a query vector.
    """

    probes: int
    depth: int


@dataclass(frozen=True)
class Calibration:
    """The least effort that reached the target, or the most that was tried where none did.

    Attributes:
        effort: what to search with.
        pages: how many candidate pages to take.
        recall: the share of the exact top pages that were among them.
        reached: whether that is the target.
    """

    effort: Effort
    pages: int
    recall: float
    reached: bool


class CandidateIndex:
    """A FAISS index over pooled vectors, open to read. Pages removed since it was built are for the caller to ignore.

    Kinds:
        flat: every pooled vector, float16.
        ivf: inverted lists, one byte a component.
        rabitq: inverted lists, 4 bits a component (Gao et al., Extended RaBitQ, SIGMOD 2025).
        hnsw: a graph over vectors of one byte a component.

    Attributes:
        kind: one of these.
        dim: length of a pooled vector.
        pages: (P,) int64, the ids of the pages that have pooled vectors, rising.
        bytes: size of the files.
    """

    def __init__(self, kind: str, index: Any, page_of_G: np.ndarray, size: int) -> None:
        self.kind = kind
        self.dim: int = index.d
        self.bytes = size
        self.pages, number_of_G = np.unique(page_of_G, return_inverse=True)
        self._number_of_G = number_of_G.astype(np.int32)
        self._index = index

    @classmethod
    def build(
        cls,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        dim: int,
        pages: int,
        *,
        folder: Path,
        kind: Literal["auto", "flat", "ivf", "rabitq", "hnsw"] = "auto",
    ) -> Self:
        """Write an index and open it.

        Args:
            batches: (g, dim) float pooled vectors, L2-normalised, and the (g,) int page id of each; page ids are any int64.
            dim: length of a pooled vector.
            pages: about how many pages there will be; what "auto" goes by.
            folder: is made; it appears when it is complete.
            kind: see the class.

        Raises:
            FileExistsError, MissingExtra, ValueError: see `write_candidates`.
        """
        write_candidates(batches, dim, _kind_for(pages) if kind == "auto" else kind, folder)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map an index that was built.

        Raises:
            IndexProblem, MissingExtra: see `read_candidates`.
        """
        description, index, page_of_G = read_candidates(folder)
        return cls(description.kind, index, page_of_G, sum(description.bytes.values()))

    @staticmethod
    def verify(folder: Path) -> list[str]:
        """Read everything back; one sentence per fault, empty when all is well."""
        return verify_candidates(folder)

    def candidates(
        self, queries: Sequence[Query], pages_wanted: int, effort: Effort, allowed: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The best pages of each query by their rough scores.

        Args:
            queries: (t, dim) float32 vectors and (t,) weights of each.
            pages_wanted: at most so many pages per query; fewer where fewer were found.
            effort: how far to look.
            allowed: page ids that may be found, None for all. Where they are few, more lists are probed, so that about as
                many vectors are compared as without.

        Returns:
            For each query (p,) int64 page ids and (p,) float64 scores, best first, equals by page id.
        """
        if not queries or not len(self.pages):
            return [(np.empty(0, dtype=np.int64), np.empty(0)) for _ in queries]
        stacked_T_D = np.ascontiguousarray(np.concatenate([vectors for vectors, _ in queries]), dtype=np.float32)
        allowed_P = None if allowed is None else np.isin(self.pages, allowed)
        scores_T_K, found_T_K = self._nearest(stacked_T_D, effort, allowed_P)
        numbers_T_K = np.where(found_T_K >= 0, self._number_of_G[found_T_K], np.int32(-1))
        results, start = [], 0
        for vectors, weights_T in queries:
            rows = slice(start, start := start + len(vectors))
            weights = np.asarray(weights_T, dtype=np.float64)
            numbers, scores = _page_scores(scores_T_K[rows], numbers_T_K[rows], weights, len(self.pages))
            best = _best(numbers, scores, pages_wanted)
            results.append((self.pages[numbers[best]], scores[best]))
        return results

    def calibrate(self, queries: Sequence[Query], exact: Sequence[np.ndarray], target: float) -> Calibration:
        """LEAD-PLACEHOLDER to be replaced by the owner."""
        best = None
        for pages, probes, depth in ((100, 4, 100), (200, 8, 200), (400, 16, 400), (800, 32, 800), (1600, 64, 1600)):
            effort = Effort(probes, depth)
            found = self.candidates(queries, pages, effort)
            recall = float(np.mean([np.isin(e, ids).mean() for e, (ids, _) in zip(exact, found, strict=True)]))
            best = Calibration(effort, pages, recall, recall >= target)
            if best.reached:
                break
        assert best
        return best

    def _nearest(self, vectors_T_D: np.ndarray, effort: Effort, allowed_P: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(T, K) inner products, falling, and positions of the pooled vectors that were found, -1 where there are no more."""
        faiss = load_faiss()
        selector, share = None, 1.0
        if allowed_P is not None:
            allowed_G = allowed_P[self._number_of_G]
            if not allowed_G.any():
                return np.empty((len(vectors_T_D), 0), dtype=np.float32), np.empty((len(vectors_T_D), 0), dtype=np.int64)
            share = float(allowed_G.mean())
            selector = faiss.IDSelectorBitmap(np.packbits(allowed_G, bitorder="little"))
        total = len(self._number_of_G)
        probes = min(math.ceil(effort.probes / share), total)
        parameters = {
            "flat": lambda: faiss.SearchParameters(sel=selector),
            "ivf": lambda: faiss.SearchParametersIVF(sel=selector, nprobe=probes),
            "rabitq": lambda: faiss.IVFRaBitQSearchParameters(sel=selector, nprobe=probes, qb=_QUERY_BITS),
            "hnsw": lambda: faiss.SearchParametersHNSW(sel=selector, efSearch=probes),
        }[self.kind]()
        return self._index.search(vectors_T_D, min(effort.depth, total), params=parameters)


def _kind_for(pages: int) -> Any:
    """LEAD-PLACEHOLDER"""
    return "flat" if pages < 5_000 else "ivf"


def _best(pages_F: np.ndarray, scores_F: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` best scores, best first, equals by page."""
    near = np.arange(len(scores_F))
    if count < len(scores_F):
        near = np.flatnonzero(scores_F >= np.partition(scores_F, -count)[-count])
    return near[np.lexsort((pages_F[near], -scores_F[near]))[:count]]


@numba.njit(nogil=True, cache=True)
def _page_scores(
    scores_T_K: np.ndarray, numbers_T_K: np.ndarray, weights_T: np.ndarray, pages: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pages that were found, by number, and their scores; see the module."""
    found = np.empty(min(pages, numbers_T_K.size), dtype=np.int64)
    gain_P = np.zeros(pages)
    last_seen_P = np.full(pages, -1, dtype=np.int32)
    count, floors = 0, 0.0
    for t in range(len(weights_T)):
        last = numbers_T_K.shape[1]
        while last > 0 and numbers_T_K[t, last - 1] < 0:
            last -= 1
        if last == 0:
            continue
        floor = float(scores_T_K[t, last - 1])
        floors += weights_T[t] * floor
        for k in range(last):
            page = numbers_T_K[t, k]
            if last_seen_P[page] == t:
                continue
            if last_seen_P[page] < 0:
                found[count] = page
                count += 1
            last_seen_P[page] = t
            gain_P[page] += weights_T[t] * (float(scores_T_K[t, k]) - floor)
    return found[:count], gain_P[found[:count]] + floors
