"""maxsim-cpu's `maxsim_scores_variable`: float32, one query a call, threads inside the call. It has no batch of queries.

Version 0.1.0 scores queries of more than 32 vectors wrongly (by up to 1e13), so those are asked in parts and summed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import maxsim_cpu
import numpy as np

LONGEST = 32


class Engine:
    def build(self, data: Path, index: Path) -> None:
        half, offsets = np.load(data / "vectors.npy", mmap_mode="r"), np.load(data / "offsets.npy")
        self._pages = [half[start:stop].astype(np.float32) for start, stop in itertools.pairwise(offsets)]

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        scores = (
            sum(maxsim_cpu.maxsim_scores_variable(query[t : t + LONGEST], self._pages) for t in range(0, len(query), LONGEST))
            for query in queries
        )
        return [np.argsort(-scores_P)[:k].tolist() for scores_P in scores]

    def bytes(self) -> int:
        return sum(page.nbytes for page in self._pages)

    def facts(self) -> dict[str, object]:
        return {"note": f"queries of more than {LONGEST} vectors are asked in parts: it scores them wrongly"}
