"""The words of the query on the page: BM25 over the page text, by SQLite FTS5."""

from __future__ import annotations

import math
import re
import sqlite3
from dataclasses import dataclass

import numpy as np

from colsearcher.indexes.stop_words import STOP_WORDS

_K1 = 1.2  # FTS5's own constants
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class LexicalMatch:
    """BM25 of each page, (P,) float64, 0 where no word matches, and the ceiling that no page can pass."""

    scores_P: np.ndarray
    ceiling: float

    def rows(self, index: np.ndarray) -> LexicalMatch:
        return LexicalMatch(self.scores_P[index], self.ceiling)


def query_words(text: str) -> list[str]:
    """The distinct words of a query that are worth matching: lower case, no stop words unless there is nothing else.

    >>> query_words("What was the net margin of the Northern region in 2025?")
    ['net', 'margin', 'northern', 'region', '2025']
    """
    words = list(dict.fromkeys(_WORD.findall(text.lower())))
    return [word for word in words if word not in STOP_WORDS] or words


def match(db: sqlite3.Connection, text: str, page_ids_P: np.ndarray) -> LexicalMatch:
    """BM25 of the query's words on the given pages.

    The ceiling is the score of an endless page made of the query's words: sum of idf · (k1 + 1) (Robertson & Zaragoza 2009).
    """
    scores = np.zeros(len(page_ids_P))
    words = query_words(text)
    if not words:
        return LexicalMatch(scores, 0.0)
    found = dict(
        db.execute(
            "SELECT rowid, -bm25(page_text) FROM page_text WHERE page_text MATCH ?", (" OR ".join(map(_quote, words)),)
        ).fetchall()
    )
    scores = np.array([found.get(page, 0.0) for page in page_ids_P.tolist()])
    return LexicalMatch(scores, sum(inverse_document_frequency(db, word) for word in words) * (_K1 + 1))


def inverse_document_frequency(db: sqlite3.Connection, word: str) -> float:
    """FTS5's inverse document frequency, which is never below 1e-6."""
    total = db.execute("SELECT count(*) FROM page").fetchone()[0]
    having = db.execute("SELECT count(*) FROM page_text WHERE page_text MATCH ?", (_quote(word),)).fetchone()[0]
    return max(math.log((total - having + 0.5) / (having + 0.5)), 1e-6)


def _quote(word: str) -> str:
    return f'"{word}"'
