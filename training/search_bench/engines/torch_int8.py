"""MaxSim over int8 codes by `torch._int_mm`: one scale for all page vectors, one for each query vector."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

BLOCK_ROWS = 8_192


class Engine:
    def build(self, data: Path, index: Path) -> None:
        half = np.load(data / "vectors.npy", mmap_mode="c")
        self._offsets = np.load(data / "offsets.npy")
        cuts = np.searchsorted(self._offsets, np.arange(0, self._offsets[-1], BLOCK_ROWS)).tolist()
        self._blocks = list(itertools.pairwise(dict.fromkeys([*cuts, len(self._offsets) - 1])))
        rows = [(int(self._offsets[first]), int(self._offsets[stop])) for first, stop in self._blocks]
        scale = 127 / max(float(np.abs(half[start:stop]).max()) for start, stop in rows)
        self._codes = torch.empty(half.shape, dtype=torch.int8)
        for start, stop in rows:
            self._codes[start:stop] = torch.from_numpy(half[start:stop]).float().mul_(scale).round_().to(torch.int8)

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        query = torch.from_numpy(np.concatenate(queries))
        scales_T = query.abs().amax(1) / 127
        codes_D_T = (query / scales_T[:, None]).round().to(torch.int8).T.contiguous()
        firsts = np.cumsum([0, *map(len, queries[:-1])])
        scores_P_Q = np.empty((len(self._offsets) - 1, len(queries)), dtype=np.float32)
        for first, stop in self._blocks:
            starts = self._offsets[first : stop + 1]
            products = torch._int_mm(self._codes[starts[0] : starts[-1]], codes_D_T).numpy()
            best = np.maximum.reduceat(products, starts[:-1] - starts[0], axis=0) * scales_T.numpy()
            scores_P_Q[first:stop] = np.add.reduceat(best, firsts, axis=1)
        return torch.from_numpy(scores_P_Q.T).topk(k).indices.tolist()

    def bytes(self) -> int:
        return self._codes.nbytes

    def facts(self) -> dict[str, object]:
        return {}
