"""The SQLite side of an index: documents, pages, page text, segments, manifest. Every change is one transaction."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from colsearcher.indexes.errors import IndexProblem, UserError

_SCHEMA = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE segment (
    id INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL
) STRICT;
-- live = 1: complete. A document that is being added, or replaced, is a second row with live = 0.
CREATE TABLE document (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL, pages INTEGER NOT NULL,
    metadata TEXT NOT NULL, live INTEGER NOT NULL, UNIQUE (name, live)
) STRICT;
CREATE TABLE page (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: what is derived from a page (`candidates`) names it by its id
    document INTEGER NOT NULL REFERENCES document (id), number INTEGER NOT NULL,
    segment INTEGER REFERENCES segment (id), start INTEGER NOT NULL, rows INTEGER NOT NULL,
    width REAL NOT NULL, height REAL NOT NULL,
    word_source TEXT NOT NULL, ocr_reason TEXT, blank INTEGER NOT NULL,
    problem TEXT,
    text TEXT NOT NULL, word_boxes BLOB NOT NULL,
    places BLOB, -- of a pooled page, see `places`
    UNIQUE (document, number)
) STRICT;
CREATE INDEX page_segment ON page (segment, start);
CREATE VIRTUAL TABLE page_words USING fts5 (
    text, content = 'page', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE page_stems USING fts5 (
    text, content = 'page', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2');
CREATE TRIGGER page_in AFTER INSERT ON page BEGIN
    INSERT INTO page_words (rowid, text) VALUES (new.id, new.text);
    INSERT INTO page_stems (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER page_out AFTER DELETE ON page BEGIN
    INSERT INTO page_words (page_words, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO page_stems (page_stems, rowid, text) VALUES ('delete', old.id, old.text);
END;
-- The pages that a reader sees: those of complete documents, and of a first version that is still being added.
CREATE VIEW pages AS
    SELECT page.id, document.name AS document, page.number AS page, page.width, page.height, page.word_source,
           page.ocr_reason, page.blank, page.problem, document.metadata, document.path, document.sha256,
           document.pages AS document_pages
    FROM page JOIN document ON document.id = page.document
    WHERE document.live OR NOT EXISTS (
        SELECT 1 FROM document AS other WHERE other.name = document.name AND other.live);
"""

FILTER_COLUMNS = ("document", "page", "width", "height", "word_source", "ocr_reason", "blank", "metadata", "document_pages")


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open the catalog. A committed transaction survives a power cut (WAL, synchronous FULL).

    A catalog that may not be written is read beside whoever writes it. Where nobody does and nothing waits in a log of
    changes (`-wal`), SQLite would make files that it may not make: it is then opened as one that nobody changes.

    Raises:
        IndexProblem: the file is not a catalog, or changes wait in a log that cannot be read without write permission.
    """
    try:
        if os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK)):
            db = _open(path, "mode=rwc")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
        else:
            db = _open_to_read(path)
        if not create:
            db.execute("SELECT value FROM manifest LIMIT 1")
    except sqlite3.DatabaseError as error:
        raise IndexProblem(
            f"{path} cannot be read as an index ({error}); name the folder that `colsearcher index add` wrote."
        ) from None
    return db


def _open(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)


def _open_to_read(path: Path) -> sqlite3.Connection:
    db = _open(path, "mode=ro")
    try:
        db.execute("PRAGMA schema_version")  # SQLite opens its files at the first thing that it is asked
        return db
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise IndexProblem(
            f"{path} has changes in {log.name} that cannot be read without write permission; "
            "run `colsearcher index info` once as somebody who may write there."
        )
    return _open(path, "immutable=1")


def create_schema(db: sqlite3.Connection, manifest: dict[str, str]) -> None:
    """Write the tables and the manifest in one transaction, so that a half-made index does not exist."""
    with transaction(db):
        for statement in _statements(_SCHEMA):
            db.execute(statement)
        db.executemany("INSERT INTO manifest VALUES (?, ?)", manifest.items())


def has_schema(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'manifest'").fetchone() is not None


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All or nothing: an exception inside rolls everything back."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in (
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
        ):
            raise IndexProblem(
                f"The catalog cannot be written ({error}); what was added before is safe: make room, then run this again."
            ) from None
        raise


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Everything read inside is of one moment, whatever is written meanwhile."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def matching_pages(db: sqlite3.Connection, filter_sql: str) -> np.ndarray:
    """Ids of the visible pages for which an SQL expression is true.

    The expression may name the columns of `FILTER_COLUMNS` and call SQL functions (`metadata->>'author' = 'Ada'`). It runs
    under an authorizer that allows reading and nothing else.

    Raises:
        UserError: the expression is not SQL, or does more than read.
    """
    fix = f"write an SQL expression over {', '.join(FILTER_COLUMNS)}, for example \"document LIKE '%.pdf' AND page < 5\"."
    allowed = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
    db.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY)
    try:
        rows = db.execute(f"SELECT id FROM pages WHERE ({filter_sql}\n)").fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise UserError(f"The filter «{filter_sql}» is not understood ({error}); {fix}") from None
    finally:
        db.set_authorizer(None)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
