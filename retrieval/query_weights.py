"""What each query token counts for: function words and punctuation match every page and say nothing about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from colsearcher.indexes.stop_words import STOP_WORDS


def token_weights(tokens: Sequence[str]) -> np.ndarray:
    """(t,) float32: 1 for content, 0.25 for stop words and punctuation; all 1 where nothing else is asked."""
    weights = np.array([0.25 if t in STOP_WORDS or not t.strip("#").isalnum() else 1.0 for t in tokens], np.float32)
    return weights if (weights == 1).any() else np.ones_like(weights)
