"""Ranking metrics with binary relevance, averaged over questions."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence

import numpy as np


def recall_at(ranked: Sequence[Hashable], gold: Collection[Hashable], k: int) -> float:
    """Share of the gold items among the first k.

    >>> recall_at(["a", "b", "c"], {"b", "z"}, 2)
    0.5
    """
    return len(set(ranked[:k]) & set(gold)) / len(gold)


def ndcg_at(ranked: Sequence[Hashable], gold: Collection[Hashable], k: int) -> float:
    """Discounted gain 1/log2(rank + 1) of the gold items among the first k, over that of an ideal ranking.

    Järvelin & Kekäläinen 2002, with binary gains.

    >>> round(ndcg_at(["a", "b"], {"b"}, 5), 4)      # 1/log2(3)
    0.6309
    >>> ndcg_at(["b", "c", "a"], {"b", "c"}, 5)
    1.0
    """
    gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(ranked[:k]) if item in gold)
    return gain / sum(1 / math.log2(rank + 2) for rank in range(min(k, len(gold))))


def reciprocal_rank_at(ranked: Sequence[Hashable], gold: Collection[Hashable], k: int) -> float:
    """1 / rank of the first gold item among the first k, else 0.

    >>> reciprocal_rank_at(["a", "b"], {"b"}, 10)
    0.5
    """
    return next((1 / rank for rank, item in enumerate(ranked[:k], 1) if item in gold), 0.0)


def summarise(rankings: Sequence[tuple[Sequence[Hashable], Collection[Hashable]]]) -> dict[str, float]:
    """The contract's metrics over (ranked, gold) pairs, each the mean over questions, rounded to four decimals."""
    metrics = {
        "recall@1": [recall_at(ranked, gold, 1) for ranked, gold in rankings],
        "recall@5": [recall_at(ranked, gold, 5) for ranked, gold in rankings],
        "recall@10": [recall_at(ranked, gold, 10) for ranked, gold in rankings],
        "hit@1": [float(recall_at(ranked, gold, 1) > 0) for ranked, gold in rankings],
        "hit@5": [float(recall_at(ranked, gold, 5) > 0) for ranked, gold in rankings],
        "ndcg@5": [ndcg_at(ranked, gold, 5) for ranked, gold in rankings],
        "mrr@10": [reciprocal_rank_at(ranked, gold, 10) for ranked, gold in rankings],
    }
    return {name: round(sum(values) / len(values), 4) for name, values in metrics.items()}


def bootstrap_interval(values: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean: the 2.5th and 97.5th percentile of the means of resamples drawn with replacement.

    Given the differences of two systems question by question this is the paired bootstrap (Efron & Tibshirani 1993).

    Args:
        values: (n,) float, one for each question; n is at least 1.

    >>> bootstrap_interval(np.array([0.5, 0.5, 0.5]))
    (0.5, 0.5)
    >>> low, high = bootstrap_interval(np.array([0.0, 1.0] * 50))      # 0.5 ± 1.96 * 0.5 / sqrt(100)
    >>> round(low, 2), round(high, 2)
    (0.4, 0.6)
    """
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
