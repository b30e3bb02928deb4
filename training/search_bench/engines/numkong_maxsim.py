"""NumKong's MaxSim: pages packed one by one; a call gives the sum of angular distances (least is best), one page at a time.

It compares int8 codes first and scores the winners in the packed precision. Calls release the interpreter's lock, so the
pages are shared out to a thread per core.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numkong
import numpy as np


class Engine:
    def build(self, data: Path, index: Path) -> None:
        half, offsets = np.load(data / "vectors.npy", mmap_mode="r"), np.load(data / "offsets.npy")
        pages = [numkong.maxsim_pack(half[start:stop]) for start, stop in itertools.pairwise(offsets)]
        self._bytes = sum(page.nbytes for page in pages)
        cores = len(os.sched_getaffinity(0))
        cuts = np.searchsorted(offsets, np.linspace(0, offsets[-1], cores + 1))
        self._shares = [pages[first:stop] for first, stop in itertools.pairwise(cuts)]
        self._pool = ThreadPoolExecutor(cores)

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        packed = [numkong.maxsim_pack(query.astype(np.float16)) for query in queries]

        def distances(pages: list[numkong.MaxSimPackedMatrix]) -> np.ndarray:
            return np.array([[numkong.maxsim_packed(query, page) for page in pages] for query in packed])

        found = np.concatenate(list(self._pool.map(distances, self._shares)), axis=1)
        return np.argsort(found, axis=1)[:, :k].tolist()

    def bytes(self) -> int:
        return self._bytes

    def facts(self) -> dict[str, object]:
        return {}
