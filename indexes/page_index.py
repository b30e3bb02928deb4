"""A durable index of page vectors: `add`, `remove`, `search`, `tune`, `compact`, `verify`, `info`.

A folder with `catalog.sqlite`, `segments/*.seg` and, for a large index, `candidates-*`. A batch of pages is one segment file,
synced before the one transaction that names it, so a kill at any moment leaves the index at its last committed batch. One
writer at a time (a lock file), any number of readers. What is stored is read back by `stored`. Left out on purpose: models and
PDFs; see `colsearcher.retrieval.indexing` for what fills an index.
"""

from __future__ import annotations

import functools
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from colsearcher.indexes import audit, catalog, lexical, upkeep
from colsearcher.indexes.candidates import CandidateIndex
from colsearcher.indexes.engines import Engines, load_engines
from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.lexical import CorpusCounts
from colsearcher.indexes.manifest import PROJECTION_FILE, Manifest
from colsearcher.indexes.page_search import PageSearch
from colsearcher.indexes.ranking import Ranking, vector_weights
from colsearcher.indexes.records import DocumentRecord, PageRecord, QueryEmbedding, SearchResult
from colsearcher.indexes.segment import sync_folder
from colsearcher.indexes.shard_list import is_sharded
from colsearcher.indexes.stored import Stored
from colsearcher.indexes.tuning import Tuning
from colsearcher.indexes.writer import Writer, writer_lock

DEFAULT_RECALL = 0.99


class PageIndex(Stored):
    """An index folder, open, with what `Stored` reads of it. Not to be shared between threads: open one per thread.

    Use `PageIndex.create` for a new folder, `PageIndex.open` for one that exists; close it, or use it in a `with`.
    """

    def __init__(self, folder: Path, db: sqlite3.Connection, manifest: Manifest, device: str) -> None:
        super().__init__(folder, db, manifest)
        self._device = device
        self._candidates: tuple[str, CandidateIndex] | None = None
        self._writer = Writer(db, folder / "segments", manifest.storage)
        self._pooling = manifest.pooling

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> Self:
        """Make an empty index.

        Raises:
            UserError: the folder cannot be written or holds an index already.
        """
        try:
            (folder / "segments").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be made ({error.strerror}); name a folder that you may write.") from None
        with writer_lock(folder):
            db = catalog.connect(folder / "catalog.sqlite", create=True)
            if catalog.has_schema(db):
                db.close()
                raise UserError(f"{folder} holds an index already; open it, or name another folder.")
            catalog.create_schema(db, manifest.rows())
            sync_folder(folder)
        return cls(folder, db, manifest, "auto")

    @classmethod
    def open(cls, folder: Path, *, device: str = "auto") -> Self:
        """Open an index to read or to change it.

        Args:
            device: what searches compute on: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.

        Raises:
            IndexProblem: there is none, or it was written by another format.
        """
        if not cls.exists(folder):
            if is_sharded(folder):
                raise IndexProblem(f"{folder} holds shards, and this needs an index of one piece; name one of its folders.")
            raise IndexProblem(f"There is no index at {folder}; make one with `colsearcher index add PATH… --index {folder}`.")
        db = catalog.connect(folder / "catalog.sqlite")
        return cls(folder, db, Manifest.from_rows(dict(db.execute("SELECT key, value FROM manifest"))), device)

    @staticmethod
    def exists(folder: Path) -> bool:
        """True where `create` has finished; a folder whose creation was cut short holds no index yet."""
        path = folder / "catalog.sqlite"
        if not path.is_file():
            return False
        db = catalog.connect(path, create=True)
        try:
            return catalog.has_schema(db)
        finally:
            db.close()

    def close(self) -> None:
        self._view = None
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- writing

    @contextmanager
    def writing(self) -> Iterator[Self]:
        """Hold the writer's lock; `add`, `remove` and `compact` need it. Sweeps segment files that no batch committed.

        Raises:
            IndexProblem: another process is writing.
        """
        with writer_lock(self.folder):
            self._writer.sweep()
            self._sweep_candidates(self._tuning())
            yield self

    def prepare(self) -> None:
        """Load what `add` computes with, which takes most of a second the first time; it would load it itself."""
        self._writer.prepare()

    def add(self, documents: Iterable[DocumentRecord], pages: Sequence[PageRecord]) -> None:
        """Store a batch of pages in one transaction, pooled if the manifest says so.

        Pages that are stored already are replaced.
        A document becomes live when its last page is stored. Until then an older version of it is what readers see.

        Args:
            documents: the records of the pages' documents.
            pages: the batch; pages of one document may come in several batches and in any order.
        """
        if self._pooling:
            pages = [replace(page, embedding=self._pooling.apply(page.embedding)) for page in pages]
        self._writer.add(documents, pages)

    def remove(self, documents: Sequence[str]) -> int:
        """Delete documents by id. Returns the number of pages that went.

        Raises:
            UserError: an id is not in the index; nothing is removed then.
        """
        return self._writer.remove(documents)

    def compact(self) -> dict[str, int]:
        """Rewrite the vectors without gaps into few segments; see `upkeep.compact`."""
        return upkeep.compact(self._db, self.folder / "segments", self.manifest.storage)

    def tune(
        self,
        queries: Sequence[QueryEmbedding] = (),
        *,
        recall: float = DEFAULT_RECALL,
        pooled_pages: int = audit.POOLED_PAGES,
        tell: Callable[[str], None] = lambda line: None,
    ) -> Tuning:
        """Measure how each engine does on this index beside exact search, and keep the cheapest setting that reaches a recall.

        Args:
            queries: what the index is asked; where there are none, 64 are made of its pages.
            recall: the share of the exact top ten that has to be found, above 0 and at most 1.
            pooled_pages: make candidates from so many pages on.
            tell: takes one line on each step.

        Raises:
            UserError: the recall is out of range, or the index is empty.
        """
        if not 0 < recall <= 1:
            raise UserError(f"A recall of {recall:g} is not possible; ask for more than 0 and at most 1.")
        self.require_pages()
        search = self._page_search(tuned=False)  # what is there may be damaged, and this is what mends it
        sampled = [(query.vectors, self.query_weights(query)) for query in queries] or audit.sample_queries(search, 64)
        tuning = audit.audit(search, self.folder, sampled, recall, pooled_pages=pooled_pages, tell=tell)
        with catalog.transaction(self._db):
            self._db.execute("INSERT OR REPLACE INTO manifest VALUES ('tuning', ?)", (tuning.to_json(),))
        self._sweep_candidates(tuning)
        return tuning

    # ---- asking

    def search(
        self,
        queries: Sequence[QueryEmbedding],
        k: int = 5,
        *,
        filter: str | None = None,
        ranking: Ranking = "default",
        recall: float = DEFAULT_RECALL,
        corpus: CorpusCounts | None = None,
    ) -> list[SearchResult]:
        """Rank the visible pages for each query, by late interaction fused with the lexical score of the page text.

        Args:
            queries: all of the same dimension as the index; they are scored in one pass over the vectors.
            k: at most so many hits per query; fewer where fewer pages have vectors or pass the filter.
            filter: an SQL expression over page columns, applied before scoring; one that matches nothing gives no hits.
            ranking: "default" fuses meaning and words, "late" is late interaction alone, "words" BM25 alone, of pages with
                a word of the query.
            recall: the share of the exact top ten that has to be found; `planner` chooses how, 1 is exact.
            corpus: counts of all the corpus, where this index is a part of it (`shards`), by `word_counts` of these queries.

        Raises:
            UserError: the filter is not SQL, k or the recall is out of range, or the index is empty.
        """
        if k < 1:
            raise UserError(f"k is {k}; ask for at least one page.")
        if not 0 < recall <= 1:
            raise UserError(f"A recall of {recall:g} is not possible; ask for more than 0 and at most 1.")
        self.require_pages()

        def search() -> list[SearchResult]:
            allowed = None if filter is None else catalog.matching_pages(self._db, filter)
            return replace(self._page_search(), corpus=corpus).search(queries, k, allowed, ranking, recall)

        return self._consistently(search)

    def word_counts(self, words: Iterable[str]) -> CorpusCounts:
        """How common words are on these pages, for `search` over several indexes that are one corpus."""
        return CorpusCounts.read(self._db, words)

    def query_weights(self, query: QueryEmbedding) -> np.ndarray:
        """(t,) float64 that sum to 1: what each query vector counts for in this corpus."""
        return vector_weights(query, self.word_weight)

    def word_weight(self, word: str) -> float:
        """How rare a word is on the pages: its inverse document frequency, at least 0."""
        return lexical.rarity(self._db, word)

    def info(self) -> dict[str, object]:
        """Counts, sizes in bytes, the pages with problems, the manifest."""
        tuning = self._tuning()
        return upkeep.info(self._db) | {
            "bytes_per_vector": self.manifest.storage.bytes_per_vector,
            "manifest": self.manifest.rows(),
            "tuning": json.loads(tuning.to_json()) if tuning else None,
        }

    def verify(self) -> list[str]:
        """Read everything back and compare; one sentence per fault, empty when all is well."""
        faults = upkeep.verify(self._db, self.folder / "segments")
        if self.manifest.projection:
            faults += upkeep.file_faults(self.folder / PROJECTION_FILE, self.manifest.projection)
        tuning = self._tuning()
        if tuning and tuning.pooled:
            faults += CandidateIndex.verify(self.folder / tuning.pooled.folder)
        return faults

    def _page_search(self, *, tuned: bool = True) -> PageSearch:
        tuning = self._tuning() if tuned else None
        if tuning and tuning.pooled and (self._candidates is None or self._candidates[0] != tuning.pooled.folder):
            folder, engines = tuning.pooled.folder, self._engines
            self._candidates = (folder, CandidateIndex.open(self.folder / folder, engines.device, engines.scan))
        candidates = self._candidates[1] if self._candidates and tuning and tuning.pooled else None
        return PageSearch(
            self._db,
            self._current_view(),
            self.manifest.storage,
            self.manifest.block_rows,
            tuning,
            self._engines,
            candidates,
        )

    @functools.cached_property
    def _engines(self) -> Engines:
        return load_engines(self._device)

    def _tuning(self) -> Tuning | None:
        row = self._db.execute("SELECT value FROM manifest WHERE key = 'tuning'").fetchone()
        return Tuning.from_json(row[0]) if row else None

    def _sweep_candidates(self, tuning: Tuning | None) -> None:
        """Remove candidates that no tuning names."""
        known = tuning.pooled.folder if tuning and tuning.pooled else ""
        for folder in self.folder.glob("candidates-*"):
            if folder.name != known:
                shutil.rmtree(folder)
