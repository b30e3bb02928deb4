"""NumKong's packed dot products: the queries are packed, blocks of pages multiplied on a thread per core, maxima by numpy.

Float16, or int8 codes with one scale for all page vectors and one for each query vector.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numkong
import numpy as np

BLOCK_ROWS = 8_192


class Engine:
    def __init__(self, dtype: Literal["f16", "i8"]) -> None:
        self._dtype = dtype

    def build(self, data: Path, index: Path) -> None:
        self._vectors = np.load(data / "vectors.npy")
        self._offsets = np.load(data / "offsets.npy")
        cuts = np.searchsorted(self._offsets, np.arange(0, self._offsets[-1], BLOCK_ROWS)).tolist()
        self._blocks = list(itertools.pairwise(dict.fromkeys([*cuts, len(self._offsets) - 1])))
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        if self._dtype == "i8":
            scale = np.float32(127 / np.abs(self._vectors).max())
            codes = np.empty(self._vectors.shape, dtype=np.int8)
            for first, stop in self._blocks:
                rows = slice(self._offsets[first], self._offsets[stop])
                codes[rows] = np.rint(self._vectors[rows].astype(np.float32) * scale)
            self._vectors = codes

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        query = np.concatenate(queries)
        scales_T = np.ones(len(query), dtype=np.float32)
        if self._dtype == "i8":
            scales_T = np.abs(query).max(1) / 127
            packed = numkong.dots_pack(np.rint(query / scales_T[:, None]).astype(np.int8))
        else:
            packed = numkong.dots_pack(query.astype(np.float16))
        firsts = np.cumsum([0, *map(len, queries[:-1])])

        def scores(block: tuple[int, int]) -> np.ndarray:
            starts = self._offsets[block[0] : block[1] + 1]
            products = np.asarray(numkong.dots_packed(self._vectors[starts[0] : starts[-1]], packed))
            best = np.maximum.reduceat(products, starts[:-1] - starts[0], axis=0) * scales_T
            return np.add.reduceat(best, firsts, axis=1)

        scores_P_Q = np.concatenate(list(self._pool.map(scores, self._blocks)))
        return np.argsort(-scores_P_Q.T, axis=1)[:, :k].tolist()

    def bytes(self) -> int:
        return self._vectors.nbytes

    def facts(self) -> dict[str, object]:
        return {}
