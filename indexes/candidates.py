"""Candidate pages from pooled vectors: which few hundred pages of very many are worth scoring exactly.

A page's rough score is MaxSim over its pooled vectors. `scan` computes it for every page, from codes, with the kernels that
search pages; pooled vectors are a tenth as many. The other kinds leave it to FAISS to find, for each query vector, the nearest
pooled vectors of all pages, and grouped by page these give

    score(p) = sum_t  w_t · max(best of p's inner products with q_t that were found, or the lowest found for q_t)

A page that a query vector did not find had nothing better than the last one it found, so that is what the page gets for it:
without it a page would rank by how often it was found and not by how well (Lee et al., XTR, NeurIPS 2023; Scheerer et al.,
WARP, SIGIR 2025).

How far to look is an `Effort`; `CandidateIndex.calibrate` measures the least that reaches a recall.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numba
import numpy as np

from colsearcher.indexes.candidate_gpu import GpuCandidates
from colsearcher.indexes.candidate_store import (
    CODEC,
    Kind,
    load_faiss,
    padded_width,
    read_candidates,
    verify_candidates,
    write_candidates,
)
from colsearcher.indexes.kernels import cpu
from colsearcher.indexes.maxsim import PageRows, QueryBatch, Scan

# Bits of a query component where codes are RaBitQ's.
_QUERY_BITS = 8
# What calibration tries: lists for a query vector, pooled vectors fetched for it, candidate pages.
_PROBES = (8, 32, 128)
_DEPTHS = (200, 1_000, 4_000)
_PAGES = (50, 100, 200, 300, 400, 600, 800, 1_200, 1_600, 2_400, 3_200, 4_800, 6_400)
# Up to here every pooled vector is read: half a second or less.
_SCANNED_PAGES = 1_000_000
Query = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Effort:
    """How far a search looks.

    Attributes:
        probes: inverted lists that are read for a query vector (`ivf`, `rabitq`), or nodes kept in view (`hnsw`); `scan` and
            `flat` read everything.
        depth: pooled vectors that are fetched for a query vector; `scan` fetches none.
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
    """Pooled vectors, open to read. Pages removed since it was built are for the caller to ignore.

    Kinds:
        scan: every pooled vector, in codes of 4 bits a component, without FAISS.
        flat: every pooled vector, float16.
        ivf: inverted lists, one byte a component.
        rabitq: inverted lists, 4 bits a component (Gao et al., Extended RaBitQ, SIGMOD 2025).
        hnsw: a graph over vectors of one byte a component.

    Attributes:
        kind: one of these.
        dim: length of a pooled vector.
        pages: (P,) int64, the ids of the pages that have pooled vectors, rising.
        bytes: size of the files.
        on_gpu: whether FAISS has a copy on a GPU, which then answers what it can.
    """

    def __init__(
        self,
        kind: str,
        dim: int,
        index: Any,
        page_of_G: np.ndarray,
        size: int,
        *,
        gpu: GpuCandidates | None = None,
        scan: Scan = cpu.scan,
        key: str = "",
    ) -> None:
        self.kind = kind
        self.dim = dim
        self.bytes = size
        self.pages, number_of_G = np.unique(page_of_G, return_inverse=True)
        self._number_of_G = number_of_G.astype(np.int32)
        self._index = index
        self._gpu = gpu
        self.on_gpu = gpu is not None
        self._scan = scan
        if kind == "scan":
            firsts_P = np.flatnonzero(np.diff(page_of_G, prepend=page_of_G[:1] - 1))
            self._ids_P = page_of_G[firsts_P]
            self._rows = PageRows(key, index, firsts_P, np.diff(firsts_P, append=len(page_of_G)))

    @classmethod
    def build(
        cls,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        dim: int,
        pages: int,
        *,
        folder: Path,
        kind: Kind | Literal["auto"] = "auto",
        device: str = "cpu",
        scan: Scan = cpu.scan,
    ) -> Self:
        """Write an index and open it.

        Args:
            batches: (g, dim) float pooled vectors, as `pooling.pool_pages` gives them, and the (g,) int page id of each; those
                of a page follow one another, and page ids are any int64.
            dim: length of a pooled vector.
            pages: about how many pages there will be; what "auto" goes by.
            folder: is made; it appears when it is complete.
            kind: see the class.
            device: see `open`.
            scan: see `open`.

        Raises:
            FileExistsError, MissingExtra, ValueError: see `write_candidates`.
        """
        write_candidates(batches, dim, _kind_for(pages) if kind == "auto" else kind, folder)
        return cls.open(folder, device, scan)

    @classmethod
    def open(cls, folder: Path, device: str = "cpu", scan: Scan = cpu.scan) -> Self:
        """Map an index that was built.

        Args:
            folder: where it was built.
            device: "cpu", or anything else for a copy on the GPUs that FAISS sees, where the kind has a form there.
            scan: what scores the pooled vectors of `scan`; see `kernels.cpu.scan`.

        Raises:
            IndexProblem, MissingExtra: see `read_candidates`.
        """
        description, index, page_of_G = read_candidates(folder)
        gpu = None
        if device != "cpu" and description.kind != "scan":
            gpu = GpuCandidates.of(load_faiss(), index, description.kind)
        size = sum(description.bytes.values())
        return cls(description.kind, description.dim, index, page_of_G, size, gpu=gpu, scan=scan, key=str(folder))

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
        if self.kind == "scan":
            return self._scanned(queries, pages_wanted, allowed)
        stacked = np.concatenate([vectors for vectors, _ in queries])
        stacked_T_W = np.zeros((len(stacked), padded_width(self.dim)), dtype=np.float32)
        stacked_T_W[:, : self.dim] = stacked
        allowed_P = None if allowed is None else np.isin(self.pages, allowed)
        scores_T_K, found_T_K = self._nearest(stacked_T_W, effort, allowed_P)
        numbers_T_K = np.where(found_T_K >= 0, self._number_of_G[found_T_K], np.int32(-1))
        results, start = [], 0
        for vectors, weights_T in queries:
            rows = slice(start, start := start + len(vectors))
            weights = np.asarray(weights_T, dtype=np.float64)
            numbers, scores = _page_scores(scores_T_K[rows], numbers_T_K[rows], weights, len(self.pages))
            best = _best(numbers, scores, pages_wanted)
            results.append((self.pages[numbers[best]], scores[best]))
        return results

    def calibrate(
        self, queries: Sequence[Query], exact: Sequence[np.ndarray], target: float, page_ms: float = 0.005
    ) -> Calibration:
        """The effort that reaches a recall in the least time, measured on sampled queries.

        Args:
            queries: as for `candidates`.
            exact: for each query the ids of the pages that exact search puts first.
            target: the share of them that has to be among the candidates.
            page_ms: milliseconds to score one candidate page.
        """
        best, best_ms = Calibration(Effort(1, 1), 1, 0.0, False), math.inf
        most = len(self._number_of_G)
        for probes in _PROBES[:1] if self.kind in ("scan", "flat") else _PROBES:
            for depth in sorted({min(depth, most) for depth in _DEPTHS}) if self.kind != "scan" else [0]:
                started = time.perf_counter()
                found = self.candidates(queries, _PAGES[-1], Effort(probes, depth))
                asking_ms = 1000 * (time.perf_counter() - started) / len(queries)
                for pages in _PAGES:
                    shares = [np.isin(wanted, ids[:pages]).mean() for wanted, (ids, _) in zip(exact, found, strict=True)]
                    recall = float(np.mean(shares))
                    milliseconds = asking_ms + pages * page_ms
                    tried = Calibration(Effort(probes, depth), pages, recall, recall >= target)
                    better = milliseconds < best_ms if tried.reached else recall > best.recall
                    if tried.reached > best.reached or (tried.reached == best.reached and better):
                        best, best_ms = tried, milliseconds
        return best

    def _scanned(
        self, queries: Sequence[Query], pages_wanted: int, allowed: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        ids_P, rows = self._ids_P, self._rows
        if allowed is not None:
            kept = np.flatnonzero(np.isin(ids_P, allowed))
            ids_P, rows = ids_P[kept], replace(rows, starts_P=rows.starts_P[kept], rows_P=rows.rows_P[kept])
        batch = QueryBatch.stack([vectors for vectors, _ in queries], [weights_T for _, weights_T in queries])
        results = []
        for scores_P in self._scan([rows], CODEC, batch, 0).T:
            best = _best(ids_P, scores_P, pages_wanted)
            results.append((ids_P[best], scores_P[best]))
        return results

    def _nearest(self, vectors_T_W: np.ndarray, effort: Effort, allowed_P: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(T, K) inner products, falling, and positions of the pooled vectors that were found, -1 where there are no more."""
        faiss = load_faiss()
        selector, share = None, 1.0
        if allowed_P is not None:
            allowed_G = allowed_P[self._number_of_G]
            if not allowed_G.any():
                return np.empty((len(vectors_T_W), 0), dtype=np.float32), np.empty((len(vectors_T_W), 0), dtype=np.int64)
            share = float(allowed_G.mean())
            selector = faiss.IDSelectorBitmap(np.packbits(allowed_G, bitorder="little"))
        total = len(self._number_of_G)
        probes = min(math.ceil(effort.probes / share), total)
        depth = min(effort.depth, total)
        if self._gpu and selector is None and self._gpu.can(depth, probes):
            return self._gpu.search(vectors_T_W, depth, probes if self.kind == "ivf" else 0)
        parameters = {
            "flat": lambda: faiss.SearchParameters(sel=selector),
            "ivf": lambda: faiss.SearchParametersIVF(sel=selector, nprobe=probes),
            "rabitq": lambda: faiss.IVFRaBitQSearchParameters(sel=selector, nprobe=probes, qb=_QUERY_BITS),
            "hnsw": lambda: faiss.SearchParametersHNSW(sel=selector, efSearch=probes),
        }[self.kind]()
        return self._index.search(vectors_T_W, depth, params=parameters)


def _kind_for(pages: int) -> Literal["scan", "ivf"]:
    """Reading every pooled vector beats FAISS at 50,000 pages by two to one (dev/LOG.md, 2026-11-22), and cannot for ever."""
    return "scan" if pages < _SCANNED_PAGES else "ivf"


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
