"""What any ranking has to beat: BM25 over the page text, and mean-pooled sentence vectors over windows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import bm25s
import numpy as np

MEAN_WINDOW_WORDS = 180


def bm25_scores(texts: Sequence[str], questions: Sequence[str]) -> np.ndarray:
    """(questions, texts) float32 scores of bm25s at its defaults (Lucene's BM25, k1 1.5, b 0.75), English stop words."""
    tokens = bm25s.tokenize(list(texts), stopwords="en", show_progress=False)
    retriever = bm25s.BM25()
    retriever.index(tokens, show_progress=False)
    scores = np.zeros((len(questions), len(texts)), dtype=np.float32)
    for row, question in enumerate(questions):
        (words,) = bm25s.tokenize([question], stopwords="en", return_ids=False, show_progress=False)
        known = [word for word in words if word in retriever.vocab_dict]
        if known:
            scores[row] = retriever.get_scores(known)
    return scores


def mean_pooled_scores(
    texts: Sequence[str], questions: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray]
) -> np.ndarray:
    """(questions, texts) float32: cosine of the question with the text's best window of 180 words.

    Args:
        encode: texts to (n, dim) unit vectors; 180 words may be cut at the model's window.
    """
    windows, owner = [], []
    for i, text in enumerate(texts):
        words = text.split()
        for start in range(0, max(1, len(words)), MEAN_WINDOW_WORDS):
            windows.append(" ".join(words[start : start + MEAN_WINDOW_WORDS]))
            owner.append(i)
    similarities_Q_W = encode(questions) @ encode(windows).T
    first = np.flatnonzero(np.diff(np.array(owner), prepend=-1))
    return np.maximum.reduceat(similarities_Q_W, first, axis=1)


def best_first(scores: np.ndarray, names: Sequence[tuple[str, int]], k: int) -> list[tuple[str, int]]:
    """The k best names for one row of scores, ties in the order of the names."""
    return [names[i] for i in np.lexsort((np.arange(len(scores)), -scores))[:k]]
