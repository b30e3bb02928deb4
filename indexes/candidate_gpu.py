"""Candidates on GPUs: FAISS's copy of an index there, cut over the cards where there are several.

What a card has no form for stays on the processor, and so do searches that ask for more than the card's kernels can hold, or
for some of the pages only: `GpuIndex` takes no selector. `hnsw` and `rabitq` have no form there at all, nor has the wheel
`faiss-gpu` CAGRA, which needs a FAISS that was built with cuVS.
"""

from __future__ import annotations

import threading
from typing import Any, Self

import numpy as np

# Results and lists of one search that FAISS's kernels hold.
MOST = 2_048
_CHUNK = 65_536


class GpuCandidates:
    """A copy of a FAISS index on every GPU of the machine, float16 or one byte a component, sharded where there are several.

    One search runs at a time: they share the cards' scratch memory and the number of probes.
    """

    def __init__(self, faiss: Any, index: Any) -> None:
        self._faiss = faiss
        self._index = index
        self._lock = threading.Lock()

    @classmethod
    def of(cls, faiss: Any, index: Any, kind: str) -> Self | None:
        """None where there is no GPU, FAISS was built without, or the kind has no form there."""
        count = faiss.get_num_gpus()
        if not count or kind not in ("flat", "ivf"):
            return None
        options = faiss.GpuMultipleClonerOptions()
        options.useFloat16 = True
        options.useFloat16CoarseQuantizer = True
        options.shard = count > 1
        options.common_ivf_quantizer = kind == "ivf"
        source = _decoded(faiss, index) if kind == "flat" else index
        resources = [faiss.StandardGpuResources() for _ in range(count)]
        return cls(faiss, faiss.index_cpu_to_gpu_multiple_py(resources, source, options))

    def can(self, depth: int, probes: int) -> bool:
        """Whether the card's kernels hold that much."""
        return depth <= MOST and probes <= MOST

    def search(self, vectors_T_W: np.ndarray, depth: int, probes: int) -> tuple[np.ndarray, np.ndarray]:
        """As `faiss.Index.search`; `probes` are the lists that are read, 0 where there are none."""
        with self._lock:
            if probes:
                self._faiss.GpuParameterSpace().set_index_parameter(self._index, "nprobe", probes)
            return self._index.search(vectors_T_W, depth)


def _decoded(faiss: Any, index: Any) -> Any:
    """The vectors of a float16 index as FAISS's plain one, the form that has a copy on a GPU."""
    plain = faiss.IndexFlatIP(index.d)
    for first in range(0, index.ntotal, _CHUNK):
        plain.add(index.reconstruct_n(first, min(_CHUNK, index.ntotal - first)))
    return plain
