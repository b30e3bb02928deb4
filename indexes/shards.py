"""Several indexes that are searched as one: `ShardedIndex`, with the reading side of `PageIndex`.

A folder with `shards.json`: the shards, each a folder beside it (`shard-0`) or an index that another machine serves
(`http://host:port`, see `remote_shard`). A page's late interaction depends on no other page; how rare a word is does. So how
common the words of a query are is counted on every shard first, and each shard then scores with the sums: the merged ranking
is that of one index over the same pages. (Where shards are so large that their scan is approximate, each finds its share of
its own top ten, and the hits' scores are exact where the shards keep their original vectors.)

Left out on purpose: writing, which is `colsearcher.retrieval.ray_shards`; moving documents between shards.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

import numpy as np

from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.lexical import CorpusCounts, query_words
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import DEFAULT_RECALL, PageIndex
from colsearcher.indexes.ranking import Ranking, vector_weights
from colsearcher.indexes.records import DocumentRecord, Hit, PageEmbedding, QueryEmbedding, SearchResult, StoredPage
from colsearcher.indexes.remote_shard import RemoteShard
from colsearcher.indexes.shard_list import FILE, is_sharded, read_shards, shard_of

Shard: TypeAlias = PageIndex | RemoteShard
Value = TypeVar("Value")
# Everything else that a manifest says shapes scores or pages, and has to be the same in all shards.
_OWN = ("created",)
_TEXT = re.compile(r"'(?:[^']|'')*'")


class ShardedIndex:
    """Shards, open, to be asked like one `PageIndex`. Not to be shared between threads."""

    def __init__(self, folder: Path, shards: dict[str, Shard]) -> None:
        self.folder = folder
        self._shards = shards
        self._pool = ThreadPoolExecutor(max(1, sum(isinstance(shard, RemoteShard) for shard in shards.values())))
        self.manifest = next(iter(shards.values())).manifest
        for name, shard in shards.items():
            differing = _differing(self.manifest, shard.manifest)
            if differing:
                self.close()
                raise IndexProblem(
                    f"Shard {name} of {folder} was made with another {differing} than shard {next(iter(shards))}, so their "
                    f"scores do not compare; make it again with the same options, or take it out of {FILE}."
                )

    @classmethod
    def open(cls, folder: Path, *, device: str = "auto") -> Self:
        """Open every shard.

        Args:
            device: what searches compute on; see `PageIndex.open`. Shards on other machines use their own.

        Raises:
            IndexProblem: a shard is missing or does not answer, or another embedder, codec, … made it than the first.
        """
        shards: dict[str, Shard] = {}
        for name in read_shards(folder):
            shards[name] = RemoteShard(name) if "://" in name else PageIndex.open(folder / name, device=device)
        return cls(folder, shards)

    def close(self) -> None:
        self._pool.shutdown()
        for shard in self._shards.values():
            shard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def search(
        self,
        queries: Sequence[QueryEmbedding],
        k: int = 5,
        *,
        filter: str | None = None,
        ranking: Ranking = "default",
        recall: float = DEFAULT_RECALL,
    ) -> list[SearchResult]:
        """As `PageIndex.search`: the same hits with the same scores as of one index over all the pages.

        Raises:
            UserError: as there; or the filter asks about more than the page it is applied to.
            IndexProblem: a shard does not answer, or two of them have the same page.
        """
        if filter is not None and re.search(r"\bselect\b", _TEXT.sub("", filter), re.IGNORECASE):
            raise UserError(
                f"The filter «{filter}» asks about other pages, and a shard knows its own only; "
                "write an expression over the columns of one page."
            )
        started = time.perf_counter()
        counts = self._each(lambda shard: shard.word_counts(_words(queries)))
        filled = {name: self._shards[name] for name, count in counts.items() if count.pages}
        corpus = _total(counts)
        _require(corpus.pages, self.folder)
        at = time.perf_counter()

        def search(shard: Shard) -> list[SearchResult]:
            return shard.search(queries, k, filter=filter, ranking=ranking, recall=recall, corpus=corpus)

        found = self._each(search, filled)
        timing = {"plan": round((at - started) * 1000, 2), "scan": round((time.perf_counter() - at) * 1000, 2)}
        merged = []
        for i in range(len(queries)):
            at = time.perf_counter()
            parts = {name: results[i] for name, results in found.items()}
            hits = _best([hit for part in parts.values() for hit in part.hits], k)
            rank_ms = round((time.perf_counter() - at) * 1000, 2)
            merged.append(SearchResult(hits, _plan(ranking, parts), {**timing, "rank": rank_ms}))
        return merged

    def query_weights(self, query: QueryEmbedding) -> np.ndarray:
        """See `PageIndex.query_weights`."""
        return vector_weights(query, self._counts(query.words).rarity)

    def word_weight(self, word: str) -> float:
        """See `PageIndex.word_weight`."""
        return self._counts([word]).rarity(word)

    def holds(self, document: str) -> bool:
        """See `PageIndex.holds`."""
        return any(shard.holds(document) for shard in self._shards.values())

    def page(self, document: str, page: int) -> StoredPage:
        """See `PageIndex.page`."""
        return self._owner(document).page(document, page)

    def embedding(self, document: str, page: int) -> PageEmbedding:
        """See `PageIndex.embedding`."""
        return self._owner(document).embedding(document, page)

    def pages(self) -> list[tuple[str, int]]:
        """See `PageIndex.pages`."""
        return sorted(page for pages in self._each(lambda shard: shard.pages()).values() for page in pages)

    def texts(self) -> list[tuple[str, int, str]]:
        """See `PageIndex.texts`."""
        return sorted(text for texts in self._each(lambda shard: shard.texts()).values() for text in texts)

    def documents(self) -> list[DocumentRecord]:
        """See `PageIndex.documents`."""
        found = [record for records in self._each(lambda shard: shard.documents()).values() for record in records]
        return sorted(found, key=lambda record: record.document)

    def require_pages(self) -> None:
        """See `PageIndex.require_pages`."""
        _require(self._counts([]).pages, self.folder)

    def info(self) -> dict[str, object]:
        """`PageIndex.info` of all shards: counts and sizes added up, the problems of all, and each shard's pages."""
        parts = self._each(lambda shard: shard.info())
        first = next(iter(parts.values()))
        added: dict[str, Any] = {}
        for name, value in first.items():
            values: list[Any] = [part[name] for part in parts.values()]
            if name in ("manifest", "bytes_per_vector"):
                added[name] = value
            elif name == "tuning":
                added[name] = None
            elif isinstance(value, dict):
                added[name] = dict(sum((Counter(own) for own in values), Counter[str]()))
            elif isinstance(value, list):
                added[name] = sorted((row for own in values for row in own), key=lambda row: (row["document"], row["page"]))
            else:
                added[name] = sum(values)
        return added | {"shards": {name: part["pages"] for name, part in parts.items()}}

    def verify(self) -> list[str]:
        """`PageIndex.verify` of every shard, and whether a document is in two of them."""
        faults = [f"{name}: {fault}" for name, own in self._each(lambda shard: shard.verify()).items() for fault in own]
        homes: dict[str, list[str]] = {}
        for name, records in self._each(lambda shard: shard.documents()).items():
            for record in records:
                homes.setdefault(record.document, []).append(name)
        twice = {document: names for document, names in homes.items() if len(names) > 1}
        return faults + [f"«{document}» is in the shards {' and '.join(names)}" for document, names in twice.items()]

    def _each(self, ask: Callable[[Shard], Value], shards: dict[str, Shard] | None = None) -> dict[str, Value]:
        """What every shard answers, by its name. Other machines work while this one does; here one scan uses all cores."""
        shards = self._shards if shards is None else shards
        away = {name: self._pool.submit(ask, shard) for name, shard in shards.items() if isinstance(shard, RemoteShard)}
        here = {name: ask(shard) for name, shard in shards.items() if name not in away}
        return {name: away[name].result() if name in away else here[name] for name in shards}

    def _counts(self, words: Sequence[str]) -> CorpusCounts:
        return _total(self._each(lambda shard: shard.word_counts(words)))

    def _owner(self, document: str) -> Shard:
        """The shard with a document, asked first where it should be; where none has it, that one, which will say so."""
        shards = list(self._shards.values())
        likely = shards[shard_of(document, len(shards))]
        rest = [shard for shard in shards if shard is not likely]
        return next((shard for shard in (likely, *rest) if shard.holds(document)), likely)


AnyIndex: TypeAlias = PageIndex | ShardedIndex


def open_index(folder: Path, *, device: str = "auto") -> AnyIndex:
    """Open an index to read, of one piece or of shards.

    Raises:
        IndexProblem: there is none, or a shard of it is missing.
    """
    return ShardedIndex.open(folder, device=device) if is_sharded(folder) else PageIndex.open(folder, device=device)


def _words(queries: Sequence[QueryEmbedding]) -> list[str]:
    return [word for query in queries for word in (*query.words, *query_words(query.text))]


def _total(counts: dict[str, CorpusCounts]) -> CorpusCounts:
    first, *rest = counts.values()
    for other in rest:
        first = first + other
    return first


def _require(pages: int, folder: Path) -> None:
    if not pages:
        raise UserError(f"The shards at {folder} hold no pages; add some with `colsearcher index add PATH… --index {folder}`.")


def _differing(one: Manifest, other: Manifest) -> str:
    theirs = other.rows()
    return next((name for name, value in one.rows().items() if name not in _OWN and theirs[name] != value), "")


def _best(hits: list[Hit], k: int) -> tuple[Hit, ...]:
    places = Counter((hit.document, hit.page) for hit in hits)
    if places and places.most_common(1)[0][1] > 1:
        document = places.most_common(1)[0][0][0]
        raise IndexProblem(f"«{document}» is in two shards; remove it from one with `colsearcher index rm`.")
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.document, hit.page))[:k])


def _plan(ranking: Ranking, parts: dict[str, SearchResult]) -> dict[str, object]:
    plans: dict[str, Any] = {name: dict(part.plan) for name, part in parts.items()}
    engines = {str(plan["engine"]) for plan in plans.values()}
    sums = {name: sum(plan[name] for plan in plans.values()) for name in ("pages", "vectors", "pages_scored")}
    engine = engines.pop() if len(engines) == 1 else "mixed"
    return {"engine": engine, "ranking": ranking, "reason": f"{len(plans)} shards, merged", **sums, "shards": plans}
