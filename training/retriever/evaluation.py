"""How well a checkpoint ranks held-out questions, by late interaction alone, and the table that says it before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.visual.embedder import VisualEmbedder
from colsearcher.training.retrieval_metrics import summarise
from colsearcher.training.retriever.pairs import PairSet

METRICS = ("recall@1", "recall@5", "ndcg@5", "mrr@10")
_DEPTH = 10
_PAGES = 32
_QUERIES = 16


def evaluate(
    embedder: VisualEmbedder, held_out: PairSet, *, tell: Callable[[str], None] = lambda text: None
) -> dict[str, float]:
    """Rank all pages of the set for each of its questions; the metrics of `METRICS`, means over questions."""
    questions = held_out.questions
    queries = embedder.embed_queries(list(questions))
    scores = []
    for start in range(0, len(held_out.pages), _PAGES):
        keys = held_out.pages[start : start + _PAGES]
        scores.append(scores_Q_P(queries, embedder.embed_pictures([held_out.draw(key) for key in keys])))
        if start // _PAGES % 20 == 0:
            tell(f"evaluation: {start + len(keys):,} of {len(held_out.pages):,} pages")
    ranked = np.argsort(-np.concatenate(scores, axis=1), axis=1, kind="stable")[:, :_DEPTH]
    found = [[held_out.pages[i] for i in row] for row in ranked]
    metrics = summarise(list(zip(found, questions.values(), strict=True)))
    return {name: metrics[name] for name in METRICS}


def scores_Q_P(queries: list[QueryEmbedding], pages: list[PageEmbedding]) -> np.ndarray:
    """MaxSim of each query with each page, (Q, P) float32: the sum over the query's vectors of the best match on the page."""
    lengths = [len(page.vectors) for page in pages]
    starts = np.cumsum([0, *lengths[:-1]])
    vectors_N_D = np.concatenate([page.vectors for page in pages])
    rows = []
    for start in range(0, len(queries), _QUERIES):
        some = queries[start : start + _QUERIES]
        best_P_T = np.maximum.reduceat(vectors_N_D @ np.concatenate([query.vectors for query in some]).T, starts, axis=0)
        ends = np.cumsum([len(query.vectors) for query in some])[:-1]
        rows += [part.sum(axis=1) for part in np.split(best_P_T, ends, axis=1)]
    return np.stack(rows).astype(np.float32)


def table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Metrics side by side, a line for each checkpoint, in Markdown.

    >>> table({"base": dict.fromkeys(METRICS, 0.25)})[0]
    '| checkpoint | recall@1 | recall@5 | ndcg@5 | mrr@10 |'
    """
    width = max(len("checkpoint"), *(len(name) for name in rows))
    head = [f"| {'checkpoint':<{width}} | " + " | ".join(METRICS) + " |", f"|{'-' * (width + 2)}|" + "---:|" * len(METRICS)]
    return head + [
        f"| {name:<{width}} | " + " | ".join(f"{values[metric]:>{len(metric)}.3f}" for metric in METRICS) + " |"
        for name, values in rows.items()
    ]
