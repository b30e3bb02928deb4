"""Exact MaxSim in torch: float32 matrix products over blocks of whole pages that fit a cache, and the maxima of the rows.

Where float32 vectors do not fit the memory, the float16 file is mapped and each block widened, for every query again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

BLOCK_ROWS = 8_192


class Engine:
    def build(self, data: Path, index: Path) -> None:
        half = np.load(data / "vectors.npy", mmap_mode="c")
        self._offsets = np.load(data / "offsets.npy")
        self._resident = 4 * half.size < 0.7 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._vectors = torch.from_numpy(half.astype(np.float32) if self._resident else half)
        cuts = np.searchsorted(self._offsets, np.arange(0, self._offsets[-1], BLOCK_ROWS)).tolist()
        self._blocks = list(itertools.pairwise(dict.fromkeys([*cuts, len(self._offsets) - 1])))

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        query_D_T = torch.from_numpy(np.concatenate(queries)).T.contiguous()
        firsts = np.cumsum([0, *map(len, queries[:-1])])
        scores_P_Q = np.empty((len(self._offsets) - 1, len(queries)), dtype=np.float32)
        for first, stop in self._blocks:
            starts = self._offsets[first : stop + 1]
            products = (self._vectors[starts[0] : starts[-1]].to(torch.float32) @ query_D_T).numpy()
            best = np.maximum.reduceat(products, starts[:-1] - starts[0], axis=0)
            scores_P_Q[first:stop] = np.add.reduceat(best, firsts, axis=1)
        return torch.from_numpy(scores_P_Q.T).topk(k).indices.tolist()

    def bytes(self) -> int:
        return self._vectors.nbytes

    def facts(self) -> dict[str, object]:
        return {} if self._resident else {"note": "float16 from the file, widened for every query: float32 does not fit"}
