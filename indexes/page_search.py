"""One search, from plan to hits: which pages are looked at, what each is worth, the best of them scored exactly."""

from __future__ import annotations

import functools
import json
import math
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from colsearcher.indexes import lexical
from colsearcher.indexes.candidates import CandidateIndex, Effort
from colsearcher.indexes.codecs import CODECS
from colsearcher.indexes.engines import Engines
from colsearcher.indexes.maxsim import QueryBatch
from colsearcher.indexes.planner import Plan, Situation, make_plan
from colsearcher.indexes.ranking import Ranking, combine, named_pages, vector_weights
from colsearcher.indexes.records import Hit, QueryEmbedding, SearchResult
from colsearcher.indexes.segment import Storage
from colsearcher.indexes.tuning import Tuning
from colsearcher.indexes.view import PageView

# Pages with the best words that are scored beside the pooled candidates.
_WORD_CANDIDATES = 100


@dataclass(frozen=True)
class _Query:
    """A query with the weights that this corpus gives its vectors."""

    embedding: QueryEmbedding
    weights_T: np.ndarray

    @property
    def batch(self) -> QueryBatch:
        return QueryBatch.stack([self.embedding.vectors], [self.weights_T])


@dataclass(frozen=True)
class PageSearch:
    """Answers queries over one view of an index."""

    db: sqlite3.Connection
    view: PageView
    storage: Storage
    block_rows: int
    tuning: Tuning | None
    engines: Engines
    candidates: CandidateIndex | None
    corpus: lexical.CorpusCounts | None = None

    def search(
        self, queries: Sequence[QueryEmbedding], k: int, allowed: np.ndarray | None, ranking: Ranking, recall: float
    ) -> list[SearchResult]:
        """See `PageIndex.search`; `allowed` are the page ids that passed the filter, None for all."""
        started = time.perf_counter()
        chosen = np.arange(len(self.view)) if allowed is None else self.view.positions(allowed)
        plan = self._plan(chosen, k, recall)
        rarity = self.corpus.rarity if self.corpus else functools.partial(lexical.rarity, self.db)
        weighted = [_Query(q, vector_weights(q, rarity)) for q in queries]
        words = [self._words(query, chosen, ranking) for query in queries]
        shown = self._shown(plan, chosen, ranking)
        planned_ms = (time.perf_counter() - started) * 1000
        at = time.perf_counter()
        if ranking == "words" or not len(chosen):
            spoken_for = [chosen[words_P > 0] for words_P in words]
            looked_at = [(positions, np.zeros(len(positions))) for positions in spoken_for]
        elif plan.engine == "pooled":
            looked_at = self._pooled(weighted, chosen, words, allowed)
        else:
            batch = QueryBatch.stack([q.embedding.vectors for q in weighted], [q.weights_T for q in weighted])
            late_P_Q = self.scan(chosen, batch, originals=plan.engine == "exact")
            looked_at = [(chosen, late_P) for late_P in late_P_Q.T]
        scan_ms = (time.perf_counter() - at) * 1000
        results = []
        for query, words_P, (positions, late) in zip(weighted, words, looked_at, strict=True):
            at = time.perf_counter()
            own_words = words_P[np.searchsorted(chosen, positions)]
            hits = self._rank(query, positions, late, own_words, k, ranking, plan)
            rank_ms = (time.perf_counter() - at) * 1000
            timing = {"plan": round(planned_ms, 2), "scan": round(scan_ms, 2), "rank": round(rank_ms, 2)}
            results.append(SearchResult(tuple(hits), shown | {"pages_scored": len(positions)}, timing))
        return results

    def _plan(self, chosen: np.ndarray, k: int, recall: float) -> Plan:
        view, tuning = self.view, self.tuning
        newest = tuning.pooled.newest_page if tuning and tuning.pooled else -1
        situation = Situation(
            pages=len(chosen),
            vectors=int(view.rows_P[chosen].sum()),
            all_pages=len(view),
            unpooled=int((view.ids_P > newest).sum()),
            storage=self.storage,
            memory_bytes=self.engines.memory_bytes,
            device=self.engines.device,
            k=k,
            recall=recall,
            tuning=tuning,
        )
        return make_plan(situation)

    def _shown(self, plan: Plan, chosen: np.ndarray, ranking: Ranking) -> dict[str, object]:
        pages = {"ranking": ranking, "pages": len(chosen), "vectors": int(self.view.rows_P[chosen].sum())}
        if ranking == "words":
            return {"engine": "words", **pages, "reason": "BM25 alone needs no vectors"}
        return {**asdict(plan), **pages, "codec": self.storage.codec.name, "device": self.engines.device}

    def _words(self, query: QueryEmbedding, chosen: np.ndarray, ranking: Ranking) -> np.ndarray:
        """(P,) float64: the lexical scores of the chosen pages, zeros where the ranking has no use for them."""
        if ranking == "late":
            return np.zeros(len(chosen))
        common = math.inf if ranking == "words" else lexical.COMMON_PAGES
        return lexical.word_scores(self.db, query.text, self.view.ids_P[chosen], self.corpus, common)

    def scan(self, positions: np.ndarray, batch: QueryBatch, *, originals: bool) -> np.ndarray:
        """(P, Q) float64 scores of pages at rising positions, from their float16 vectors or from their codes and centres."""
        stored = self.view.stored(positions, originals=originals)
        if originals or self.storage.codec.bits == 16:
            return self.engines.scan(stored, CODECS["fp16"], batch, self.block_rows)
        scores_P_Q = self.engines.scan(stored, self.storage.codec, batch, self.block_rows)
        weighted_T_D = batch.vectors_T_D * batch.weights_T[:, None]
        direction_D_Q = np.add.reduceat(weighted_T_D, batch.offsets_Q[:-1], axis=0).T.astype(np.float32)
        return scores_P_Q + self.view.centre_scores(positions, direction_D_Q)

    def _pooled(
        self, queries: Sequence[_Query], chosen: np.ndarray, words: Sequence[np.ndarray], allowed: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each query the positions that are looked at, and their scores from the codes."""
        assert self.candidates and self.tuning and self.tuning.pooled
        pooled = self.tuning.pooled
        effort = Effort(pooled.probes, pooled.neighbours)
        asked = [(q.embedding.vectors, q.weights_T) for q in queries]
        found = self.candidates.candidates(asked, pooled.pages, effort, allowed=allowed)
        newer = np.flatnonzero(self.view.ids_P > pooled.newest_page)
        looked_at = []
        for query, words_P, (ids, _) in zip(queries, words, found, strict=True):
            best_words = np.argsort(-words_P, kind="stable")[:_WORD_CANDIDATES]
            worded = chosen[best_words[words_P[best_words] > 0]]
            named = chosen[named_pages(query.embedding.text, self.view.numbers_P[chosen], self.view.last_P[chosen])]
            if len(named) > _WORD_CANDIDATES:
                named = named[:0]  # «page 2» of every document: only those that something else speaks for can win
            positions = np.unique(np.concatenate([self.view.positions(ids), newer, worded, named]))
            positions = positions[np.isin(positions, chosen, assume_unique=True)]
            looked_at.append((positions, self.scan(positions, query.batch, originals=False)[:, 0]))
        return looked_at

    def _rank(
        self,
        query: _Query,
        positions: np.ndarray,
        late: np.ndarray,
        words: np.ndarray,
        k: int,
        ranking: Ranking,
        plan: Plan,
    ) -> list[Hit]:
        """The best k of the pages at these positions; approximate scores are replaced by exact ones before they count."""
        view = self.view
        named = named_pages(query.embedding.text, view.numbers_P[positions], view.last_P[positions])
        rough = _total(combine(ranking, late, words, named))
        again = ranking != "words" and plan.engine != "exact" and self.storage.exact
        kept = _best(rough, max(plan.depth, k) if again else k)
        late = late[kept]
        if again:
            late = self.scan(positions[kept], query.batch, originals=True)[:, 0]
        parts = combine(ranking, late, words[kept], named[kept])
        scores = _total(parts)
        best = np.lexsort((view.order_P[positions[kept]], -scores))[:k]
        return [
            Hit(
                view.documents_P[positions[kept[i]]],
                int(view.numbers_P[positions[kept[i]]]),
                float(scores[i]),
                self._metadata(int(view.ids_P[positions[kept[i]]])),
                {name: float(values[i]) for name, values in parts.items()},
            )
            for i in best
        ]

    def _metadata(self, page_id: int) -> dict[str, object]:
        return json.loads(self.db.execute("SELECT metadata FROM pages WHERE id = ?", (page_id,)).fetchone()[0])


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Rising indices of the `count` highest scores, and of all that equal the last of them."""
    if count >= len(scores):
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -count)[-count])


def _total(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sum(list(parts.values()), axis=0)
