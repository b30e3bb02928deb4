"""fast-plaid on the CPU with its own defaults (4-bit residuals, 8 probes, 4,096 full scores), but for the number of probes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fast_plaid.search import FastPlaid


class Engine:
    def __init__(self, n_ivf_probe: int) -> None:
        self._probes = n_ivf_probe

    def build(self, data: Path, index: Path) -> None:
        vectors = torch.from_numpy(np.load(data / "vectors.npy", mmap_mode="c"))
        pages = list(vectors.split(np.diff(np.load(data / "offsets.npy")).tolist()))
        FastPlaid(str(index / "plaid"), device="cpu").create(pages)
        self.open(index)

    def open(self, index: Path) -> None:
        self._plaid = FastPlaid(str(index / "plaid"), device="cpu")
        self._folder = index / "plaid"

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        found = self._plaid.search(
            [torch.from_numpy(query) for query in queries],
            top_k=k,
            n_ivf_probe=self._probes,
            show_progress=False,
            n_processes=len(os.sched_getaffinity(0)),
        )
        return [[page for page, _ in pages] for pages in found]

    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())

    def facts(self) -> dict[str, object]:
        return {}
