"""Vectors of no text, for where the data folder is absent: clustered random directions in ragged texts."""

from __future__ import annotations

import numpy as np

from colsearcher.training.search_bench.page_vectors import Chunks
from colsearcher.training.search_bench.presets import DIM, SEED
from colsearcher.training.search_bench.real_text import Questions

TEXTS, SHORTEST, LONGEST = 12_000, 40, 150
CENTRES, BATCH = 2_000, 128
QUERY_VECTORS = 20


class SyntheticText:
    """Texts whose vectors lie about `CENTRES` random directions, and queries near vectors of one text each."""

    name = "synthetic"
    about = (
        f"synthetic: unit vectors about {CENTRES:,} random directions, in texts of {SHORTEST} to {LONGEST} vectors; no data "
        "folder was found, so these numbers are not comparable with those on real text"
    )

    def __init__(self, texts: int = TEXTS) -> None:
        self.passages = texts
        self.recipe: dict[str, object] = {"texts": texts, "centres": CENTRES, "lengths": [SHORTEST, LONGEST]}
        self._centres = np.random.default_rng(SEED).normal(size=(CENTRES, DIM)).astype(np.float32)

    def short_texts(self, count: int) -> Chunks:
        return Chunks(-(-count // BATCH), lambda i: [self._text(j) for j in range(i * BATCH, min((i + 1) * BATCH, count))])

    def texts(self) -> Chunks:
        return self.short_texts(self.passages)

    def questions(self, passages: int, documents: int) -> Questions:
        count = passages + documents
        rng = np.random.default_rng([SEED, 1])
        vectors = []
        for text in rng.integers(0, min(self.passages, 1_000), count):
            near = self._text(int(text)).astype(np.float32)
            near = near[rng.integers(0, len(near), QUERY_VECTORS)]
            vectors.append(_unit(near + 0.5 * rng.normal(size=near.shape).astype(np.float32) / DIM**0.5))
        return Questions([f"synthetic question {i}" for i in range(count)], vectors)

    def _text(self, i: int) -> np.ndarray:
        rng = np.random.default_rng([SEED, 0, i])
        n = rng.integers(SHORTEST, LONGEST + 1)
        near = self._centres[rng.integers(0, CENTRES, n)] + rng.normal(size=(n, DIM)).astype(np.float32)
        return _unit(near).astype(np.float16)


def _unit(vectors_N_D: np.ndarray) -> np.ndarray:
    return vectors_N_D / np.linalg.norm(vectors_N_D, axis=1, keepdims=True)
