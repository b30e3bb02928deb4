"""The writing side of an index: one batch, one transaction; which version of a document readers see; the writer's lock."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from colsearcher.indexes import catalog
from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.places import encode_places
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, PageRecord
from colsearcher.indexes.rotation import rotate
from colsearcher.indexes.segment import SegmentFile, Storage, box_codes, encode_rows, write_segment


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """One writer at a time, across processes; the lock goes with the process.

    Raises:
        IndexProblem: another process is writing, or the folder may not be written.
    """
    try:
        file = (folder / "lock").open("w")
    except OSError as error:
        raise IndexProblem(
            f"The index at {folder} cannot be changed ({error.strerror}); make the folder writable, or name another one."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IndexProblem(
                f"Another process is changing the index at {folder}; wait for it to end, then run this again."
            ) from None
        yield


class Writer:
    """Changes a catalog and its segment files. Used by `PageIndex`, which documents what the operations mean."""

    def __init__(self, db: sqlite3.Connection, segments: Path, storage: Storage) -> None:
        self._db = db
        self._segments = segments
        self._storage = storage

    def prepare(self) -> None:
        if self._storage.codec.rotates:
            # First of all: the rotation's QR is shared out to threads, which wait long for each other once a model is at work.
            rotate(np.zeros((1, self._storage.dim), dtype=np.float32))
        nothing = PageEmbedding(np.zeros((1, self._storage.dim), np.float16), np.zeros((1, 4), np.float32), np.zeros(1, bool))
        encode_rows([nothing], self._storage)

    def add(self, documents: Iterable[DocumentRecord], pages: Sequence[PageRecord]) -> None:
        embeddings = [page.embedding for page in pages if len(page.embedding.vectors)]
        segment = self._write(embeddings) if embeddings else None
        try:
            with catalog.transaction(self._db):
                segment_id = self.insert_segment(segment) if segment else None
                ids = {record.document: self._document_id(record) for record in documents}
                start = 0
                for page in pages:
                    self._insert_page(ids[page.document], page, segment_id, start)
                    start += len(page.embedding.vectors)
                for document_id in ids.values():
                    self._make_live(document_id)
                dropped = self._drop_empty_segments()
        except BaseException:
            if segment and not self._is_named(segment.file):  # an interrupt may come when all is committed already
                self.unlink([segment.file])
            raise
        self.unlink(dropped)

    def _is_named(self, file: str) -> bool:
        """Whether the catalog knows a segment file; if it cannot be asked the file is left to `sweep`."""
        try:
            return self._db.execute("SELECT 1 FROM segment WHERE file = ?", (file,)).fetchone() is not None
        except sqlite3.Error:
            return True

    def _write(self, embeddings: Sequence[PageEmbedding]) -> SegmentFile:
        # Page by page: what is computed of one stays in the processor's cache.
        return write_segment(self._segments, [encode_rows([e], self._storage) for e in embeddings], self._storage)

    def remove(self, documents: Sequence[str]) -> int:
        with catalog.transaction(self._db) as db:
            pages = 0
            for name in dict.fromkeys(documents):
                ids = [row[0] for row in db.execute("SELECT id FROM document WHERE name = ?", (name,))]
                if not ids:
                    raise UserError(f"The index has no document «{name}»; `colsearcher index info` lists them.")
                pages += db.execute("SELECT count(*) FROM pages WHERE document = ?", (name,)).fetchone()[0]
                for document_id in ids:
                    self._delete_document(document_id)
            dropped = self._drop_empty_segments()
        self.unlink(dropped)
        return pages

    def sweep(self) -> None:
        """Remove what a killed writer left: segment files that no transaction names."""
        known = {row[0] for row in self._db.execute("SELECT file FROM segment")}
        self.unlink(path.name for path in self._segments.glob("*.seg") if path.name not in known)

    def insert_segment(self, segment: SegmentFile) -> int:
        values = (segment.file, segment.rows, segment.bytes, segment.sha256)
        return int(self._db.execute("INSERT INTO segment VALUES (NULL, ?, ?, ?, ?)", values).lastrowid or 0)

    def unlink(self, files: Iterable[str]) -> None:
        for file in files:
            (self._segments / file).unlink(missing_ok=True)

    def _document_id(self, record: DocumentRecord) -> int:
        """The row of this version of the document; a version that neither is live nor this one is dropped."""
        metadata = json.dumps(dict(record.metadata), ensure_ascii=False, sort_keys=True)
        rows = self._db.execute("SELECT id, sha256, live FROM document WHERE name = ?", (record.document,)).fetchall()
        for document_id, sha256, live in rows:
            if sha256 != record.sha256 and not live:
                self._delete_document(document_id)
        for document_id, sha256, _ in rows:
            if sha256 == record.sha256:
                self._db.execute(
                    "UPDATE document SET path = ?, pages = ?, metadata = ? WHERE id = ?",
                    (record.path, record.pages, metadata, document_id),
                )
                return document_id
        values = (record.document, record.path, record.sha256, record.pages, metadata)
        return int(self._db.execute("INSERT INTO document VALUES (NULL, ?, ?, ?, ?, ?, 0)", values).lastrowid or 0)

    def _insert_page(self, document_id: int, page: PageRecord, segment_id: int | None, start: int) -> None:
        old = self._db.execute("SELECT id FROM page WHERE document = ? AND number = ?", (document_id, page.page)).fetchone()
        if old:
            self._db.execute("DELETE FROM page WHERE id = ?", old)
        rows = len(page.embedding.vectors)
        self._db.execute(
            "INSERT INTO page VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                document_id,
                page.page,
                segment_id if rows else None,
                start,
                rows,
                *page.size,
                page.word_source,
                page.ocr_reason,
                int(page.blank),
                page.problem,
                page.text,
                box_codes(page.word_boxes).tobytes(),
                encode_places(places) if (places := page.embedding.places) is not None else None,
            ),
        )

    def _make_live(self, document_id: int) -> None:
        name, pages, live = self._db.execute("SELECT name, pages, live FROM document WHERE id = ?", (document_id,)).fetchone()
        stored = self._db.execute("SELECT count(*) FROM page WHERE document = ?", (document_id,)).fetchone()[0]
        if live or stored < pages:
            return
        for (old,) in self._db.execute("SELECT id FROM document WHERE name = ? AND live", (name,)).fetchall():
            self._delete_document(old)
        self._db.execute("UPDATE document SET live = 1 WHERE id = ?", (document_id,))

    def _delete_document(self, document_id: int) -> None:
        self._db.execute("DELETE FROM page WHERE document = ?", (document_id,))
        self._db.execute("DELETE FROM document WHERE id = ?", (document_id,))

    def _drop_empty_segments(self) -> list[str]:
        empty = "FROM segment WHERE NOT EXISTS (SELECT 1 FROM page WHERE page.segment = segment.id)"
        files = [row[0] for row in self._db.execute(f"SELECT file {empty}")]
        self._db.execute(f"DELETE {empty}")
        return files
