"""Many pages from few: real pages as they are, and distractors that are recombined from windows of real text.

A distractor is a row of windows of 16 to 48 neighbouring vectors, no two from the same text, so it is never a copy of a page.
A base vector recurs in tens of distractors at the largest size; without more, those would tie. So each window is turned away
from its origin by a cosine of its own between 0.90 and 0.95, towards differences of other base vectors: what it becomes has
length 1 and lies where real vectors lie.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from colsearcher.training.search_bench.page_vectors import Chunks, PageVectors
from colsearcher.training.search_bench.presets import SEED

WINDOW = (16, 48)
COSINE = (0.90, 0.95)
SHORTEST, LONGEST, SKEW = 256, 1_030, 3.75
RECIPE = {"window": WINDOW, "cosine": COSINE, "lengths": (SHORTEST, LONGEST, SKEW)}
CHUNK = 256


@dataclass(frozen=True)
class Distractor:
    """A made page: its (n, D) float16 vectors, the base row that each comes from, and the bounds of its windows."""

    vectors_N_D: np.ndarray
    origins_N: np.ndarray
    windows: np.ndarray


def page_length(rng: np.random.Generator) -> int:
    """256 to 1,030, most of them short, 419 on average."""
    return int(SHORTEST + (LONGEST - SHORTEST) * rng.beta(1, SKEW))


def distractor(base: PageVectors, rng: np.random.Generator) -> Distractor:
    """A page of about `page_length` vectors."""
    wanted = page_length(rng)
    lengths = rng.integers(WINDOW[0], WINDOW[1] + 1, wanted // WINDOW[0] + 1)
    texts = rng.choice(np.flatnonzero(base.lengths_P >= WINDOW[0]), len(lengths), replace=False)
    lengths = np.minimum(lengths, base.lengths_P[texts])
    used = min(int(np.searchsorted(np.cumsum(lengths), wanted)) + 1, len(lengths))
    lengths, texts = lengths[:used], texts[:used]
    starts = base.offsets_P1[texts] + rng.integers(0, base.lengths_P[texts] - lengths + 1)
    origins = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
    cosines = np.repeat(rng.uniform(*COSINE, used), lengths).astype(np.float32)
    vectors = turned(base.vectors_N_D, origins, cosines, rng)
    return Distractor(vectors.astype(np.float16), origins, np.cumsum(lengths))


def turned(base_N_D: np.ndarray, rows: np.ndarray, cosines: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, D) float32 unit vectors, row i at cosine cosines[i] to base row rows[i]."""
    origin = base_N_D[rows].astype(np.float32)
    origin /= np.linalg.norm(origin, axis=1, keepdims=True)
    others = rng.integers(0, len(base_N_D), (2, len(rows)))
    away = base_N_D[others[0]].astype(np.float32) - base_N_D[others[1]]
    away += 1e-3 * rng.normal(size=away.shape).astype(np.float32)  # the two others may be the same
    away -= (away * origin).sum(1, keepdims=True) * origin
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return cosines[:, None] * origin + np.sqrt(1 - cosines[:, None] ** 2) * away


def real_pages(base: PageVectors, passages: int) -> list[tuple[int, int]]:
    """First row and last row + 1 of every real page: the first texts, the passages, neighbours packed up to a `page_length`;
    the others are pages already."""
    rng = np.random.default_rng([SEED, 2])
    pages, first, wanted = [], 0, page_length(rng)
    for start, stop in itertools.pairwise(base.offsets_P1[: passages + 1].tolist()):
        if start > first and stop - first > wanted:
            pages.append((first, start))
            first, wanted = start, page_length(rng)
    last = int(base.offsets_P1[passages])
    return [*pages, (first, last), *itertools.pairwise(base.offsets_P1[passages:].tolist())]


def page_chunks(base: PageVectors, passages: int, pages: int) -> Chunks:
    """So many pages, the real ones spread evenly among distractors; each depends on its own number only."""
    real = real_pages(base, passages)[-pages:]
    place_P = np.full(pages, -1)
    place_P[np.random.default_rng([SEED, 3]).permutation(pages)[: len(real)]] = np.arange(len(real))

    def make(i: int) -> list[np.ndarray]:
        made = []
        for page in range(i * CHUNK, min((i + 1) * CHUNK, pages)):
            if place_P[page] >= 0:
                made.append(base.vectors_N_D[slice(*real[place_P[page]])])
            else:
                made.append(distractor(base, np.random.default_rng([SEED, 4, page])).vectors_N_D)
        return made

    return Chunks(-(-pages // CHUNK), make)
