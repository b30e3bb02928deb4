"""colpali-engine's own scoring, `score_multi_vector`: batches of 128 pages, padded to the longest with zeros, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from colpali_engine.utils.processing_utils import BaseVisualRetrieverProcessor


class Engine:
    def build(self, data: Path, index: Path) -> None:
        vectors = torch.from_numpy(np.load(data / "vectors.npy").astype(np.float32))
        self._bytes = vectors.nbytes
        self._pages = list(vectors.split(np.diff(np.load(data / "offsets.npy")).tolist()))

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        vectors = [torch.from_numpy(query) for query in queries]
        scores_Q_P = BaseVisualRetrieverProcessor.score_multi_vector(vectors, self._pages, device="cpu")
        return scores_Q_P.topk(k).indices.tolist()

    def bytes(self) -> int:
        return self._bytes

    def facts(self) -> dict[str, object]:
        return {}
