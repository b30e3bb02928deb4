"""The words of the query on the page: BM25 over the page text, with term counts from SQLite FTS5.

    words(q, p) = sum_t idf(t) · tf · (k1 + 1) / (tf + k1 · (1 - b + b · len/avg)) / sum_t idf(t)      in [0, k1 + 1)

BM25 after Robertson & Zaragoza 2009 with FTS5's k1 = 1.2 and b = 0.75, divided by the weight of the whole query, so that it
is the same on ten pages and on a million. The rarity idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5)) is our own: FTS5's drops to
nothing for a word on half of the pages, which in a small corpus is most words. Two tokenisations are averaged: words as they
stand, and stems (porter).
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from colsearcher.indexes.stop_words import STOP_WORDS

TABLES = ("page_words", "page_stems")
# Beside late interaction a word on more pages than this is left out: each of its pages would have to be visited.
COMMON_PAGES = 5_000
_WORD = re.compile(r"[^\W_]+")
# FTS5's constants of BM25.
_K1, _B = 1.2, 0.75


@dataclass(frozen=True)
class CorpusCounts:
    """What the scores of words depend on beside a page and a query. Counts of several indexes add up to those of one.

    Attributes:
        pages: all indexed pages.
        tokens: by table of `TABLES`, how many tokens their texts have.
        having: by table, for some words, on how many pages each is.
    """

    pages: int
    tokens: Mapping[str, int]
    having: Mapping[str, Mapping[str, int]]

    @classmethod
    def read(cls, db: sqlite3.Connection, words: Iterable[str]) -> Self:
        """Count words, and phrases of adjoining words, in one index."""
        known = [word for word in dict.fromkeys(words) if _WORD.search(word)]
        pages = db.execute("SELECT count(*) FROM page").fetchone()[0]
        having = {table: {word: _having(db, word, table) for word in known} for table in TABLES}
        return cls(pages, {table: _tokens(db, table) for table in TABLES}, having)

    def __add__(self, other: CorpusCounts) -> CorpusCounts:
        """
        >>> one = CorpusCounts(2, {"page_words": 9}, {"page_words": {"tulip": 1}})
        >>> one + one
        CorpusCounts(pages=4, tokens={'page_words': 18}, having={'page_words': {'tulip': 2}})
        """
        having = {table: {word: n + other.having[table][word] for word, n in own.items()} for table, own in self.having.items()}
        return CorpusCounts(self.pages + other.pages, {t: n + other.tokens[t] for t, n in self.tokens.items()}, having)

    def rarity(self, word: str) -> float:
        """As `lexical.rarity`, of one of the counted words."""
        return _idf(self.pages, self.having[TABLES[0]][word]) if _WORD.search(word) else 0.0


def query_words(text: str) -> list[str]:
    """The distinct words of a query that are worth matching: lower case, no stop words unless there is nothing else.

    >>> query_words("What was the net margin of the Northern region in 2025?")
    ['net', 'margin', 'northern', 'region', '2025']
    """
    words = list(dict.fromkeys(_WORD.findall(text.lower())))
    return [word for word in words if word not in STOP_WORDS] or words


def rarity(db: sqlite3.Connection, word: str, table: str = "page_words") -> float:
    """idf of a word, or of a phrase of adjoining words, over the indexed pages; 0 where it has no letter or digit."""
    if not _WORD.search(word):
        return 0.0
    return _idf(*_counts(db, word, table))


def _idf(total: int, having: int) -> float:
    return math.log(1 + (total - having + 0.5) / (having + 0.5))


def word_scores(
    db: sqlite3.Connection,
    text: str,
    page_ids_P: np.ndarray,
    corpus: CorpusCounts | None = None,
    common_pages: float = COMMON_PAGES,
) -> np.ndarray:
    """(P,) float64: how well the words of a query are matched by each page's text.

    Args:
        common_pages: a word on more pages than this is left out.
        corpus: counts of all the corpus, where the index is a part of one; it has to have the words of the query.
    """
    words = query_words(text)
    scores = np.zeros(len(page_ids_P))
    if not words or not len(page_ids_P):
        return scores
    order = np.argsort(page_ids_P, kind="stable")
    ids = page_ids_P[order]
    for table in TABLES:
        sums, total_weight = np.zeros(len(ids)), 0.0
        for word in words:
            total, having = (corpus.pages, corpus.having[table][word]) if corpus else _counts(db, word, table)
            if having > common_pages:
                continue
            weight = _idf(total, having)
            total_weight += weight
            pages, saturated = _frequencies(db, word, table, corpus)
            place = np.searchsorted(ids, pages)
            inside = place < len(ids)
            inside[inside] = ids[place[inside]] == pages[inside]
            sums[place[inside]] += weight * saturated[inside]
        if total_weight:
            scores[order] += sums / total_weight / len(TABLES)
    return scores


def _frequencies(db: sqlite3.Connection, word: str, table: str, corpus: CorpusCounts | None) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the pages that have a word, and tf · (k1 + 1) / (tf + k1 · (1 - b + b · len/avg)) on each."""
    total, having = _counts(db, word, table)
    # bm25() is the negated product of FTS5's own idf and the saturated term frequency; only the latter is wanted.
    own = max(math.log((total - having + 0.5) / (having + 0.5)), 1e-6)
    size = f"(SELECT sz FROM {table}_docsize WHERE id = {table}.rowid)" if corpus else "NULL"
    sql = f"SELECT rowid, bm25({table}), {size} FROM {table} WHERE {table} MATCH ?"
    found = db.execute(sql, (_quote(word),)).fetchall()
    pages = np.array([row[0] for row in found], dtype=np.int64)
    saturated = np.array([row[1] for row in found]) / -own
    if corpus is None or not found:
        return pages, saturated
    # FTS5 knows the average length in this index; tf is what makes its result for that average, and is a whole number.
    lengths = np.array([_varints(row[2])[0] for row in found], dtype=np.float64)
    here = _K1 * (1 - _B + _B * lengths * total / _tokens(db, table))
    tf = np.rint(saturated * here / (_K1 + 1 - saturated))
    return pages, tf * (_K1 + 1) / (tf + _K1 * (1 - _B + _B * lengths * corpus.pages / corpus.tokens[table]))


def _counts(db: sqlite3.Connection, word: str, table: str) -> tuple[int, int]:
    """How many pages there are, and how many of them have the word."""
    total = db.execute("SELECT count(*) FROM page").fetchone()[0]
    return total, _having(db, word, table)


def _having(db: sqlite3.Connection, word: str, table: str) -> int:
    return db.execute(f"SELECT count(*) FROM {table} WHERE {table} MATCH ?", (_quote(word),)).fetchone()[0]


def _tokens(db: sqlite3.Connection, table: str) -> int:
    """Tokens of all pages: FTS5 keeps the number of rows and then that of tokens in the first record of its data."""
    row = db.execute(f"SELECT block FROM {table}_data WHERE id = 1").fetchone()
    counts = _varints(row[0]) if row else []
    return counts[1] if len(counts) > 1 else 0


def _varints(data: bytes) -> list[int]:
    """SQLite's variable-length integers: seven bits a byte, the high bit on all but the last.

    >>> _varints(bytes([5, 0x81, 0x00]))
    [5, 128]
    """
    values, value = [], 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            values.append(value)
            value = 0
    return values


def _quote(word: str) -> str:
    return '"' + word.replace('"', " ") + '"'
