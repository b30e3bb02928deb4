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

import numpy as np

from colsearcher.indexes.stop_words import STOP_WORDS

TABLES = ("page_words", "page_stems")
# A word on more pages than this says nothing and is left out: each of its pages would have to be visited.
COMMON_PAGES = 5_000
_WORD = re.compile(r"[^\W_]+")


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


def word_scores(db: sqlite3.Connection, text: str, page_ids_P: np.ndarray) -> np.ndarray:
    """(P,) float64: how well the words of a query are matched by each page's text."""
    words = query_words(text)
    scores = np.zeros(len(page_ids_P))
    if not words or not len(page_ids_P):
        return scores
    order = np.argsort(page_ids_P, kind="stable")
    ids = page_ids_P[order]
    for table in TABLES:
        sums, total_weight = np.zeros(len(ids)), 0.0
        for word in words:
            total, having = _counts(db, word, table)
            if having > COMMON_PAGES:
                continue
            weight = _idf(total, having)
            total_weight += weight
            # bm25() is the negated product of FTS5's own idf and the saturated term frequency; only the latter is wanted.
            own = max(math.log((total - having + 0.5) / (having + 0.5)), 1e-6)
            found = db.execute(f"SELECT rowid, bm25({table}) FROM {table} WHERE {table} MATCH ?", (_quote(word),)).fetchall()
            pages, negated = np.array(found).reshape(-1, 2).T
            place = np.searchsorted(ids, pages)
            inside = place < len(ids)
            inside[inside] = ids[place[inside]] == pages[inside]
            sums[place[inside]] -= weight / own * negated[inside]
        if total_weight:
            scores[order] += sums / total_weight / len(TABLES)
    return scores


def _counts(db: sqlite3.Connection, word: str, table: str) -> tuple[int, int]:
    """How many pages there are, and how many of them have the word."""
    total = db.execute("SELECT count(*) FROM page").fetchone()[0]
    return total, db.execute(f"SELECT count(*) FROM {table} WHERE {table} MATCH ?", (_quote(word),)).fetchone()[0]


def _quote(word: str) -> str:
    return '"' + word.replace('"', " ") + '"'
