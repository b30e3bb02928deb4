"""What an index has stored, read back: its documents, its pages, their texts and vectors.

Visible are the pages of complete documents, and of a first version that is still being added: the view `pages` of `catalog`.
`writer` is the other side.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from colsearcher.indexes import catalog
from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.places import decode_places
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, StoredPage
from colsearcher.indexes.segment import Segment, box_fractions
from colsearcher.indexes.view import PageView

Result = TypeVar("Result")
_TRIES = 10


class Stored:
    """What a `PageIndex` has stored, read from its catalog and its segments."""

    def __init__(self, folder: Path, db: sqlite3.Connection, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._db = db
        self._view: PageView | None = None

    def documents(self) -> list[DocumentRecord]:
        """The documents in order of their ids; of one that is being replaced, the version that readers see."""
        rows = self._db.execute(
            "SELECT name, path, sha256, pages, metadata FROM document AS d WHERE live OR NOT EXISTS "
            "(SELECT 1 FROM document AS o WHERE o.name = d.name AND o.live) ORDER BY name"
        )
        return [DocumentRecord(n, p, s, c, json.loads(m)) for n, p, s, c, m in rows]

    def half_replaced(self) -> set[str]:
        """Complete documents of which another version has been stored in part."""
        rows = self._db.execute("SELECT name FROM document GROUP BY name HAVING count(*) > 1")
        return {row[0] for row in rows}

    def holds(self, document: str) -> bool:
        """True where the index has this document, or a part of it."""
        return self._db.execute("SELECT 1 FROM document WHERE name = ?", (document,)).fetchone() is not None

    def stored_pages(self, record: DocumentRecord) -> dict[int, str | None]:
        """Numbers of the pages stored of exactly this version of a document, each with its problem or None."""
        rows = self._db.execute(
            "SELECT page.number, page.problem FROM page JOIN document ON document.id = page.document "
            "WHERE document.name = ? AND document.sha256 = ?",
            (record.document, record.sha256),
        )
        return dict(rows.fetchall())

    def pages(self) -> list[tuple[str, int]]:
        """(document, page) of every visible page in order."""
        return self._db.execute("SELECT document, page FROM pages ORDER BY document, page").fetchall()

    def texts(self) -> list[tuple[str, int, str]]:
        """(document, page, text) of every visible page in order."""
        return self._db.execute(
            "SELECT pages.document, page, text FROM pages JOIN page USING (id) ORDER BY pages.document, page"
        ).fetchall()

    def require_pages(self) -> None:
        """Refuse to ask an empty index.

        Raises:
            UserError: it holds no pages.
        """
        if self._db.execute("SELECT 1 FROM page LIMIT 1").fetchone() is None:
            raise UserError(
                f"The index at {self.folder} holds no pages; add some with `colsearcher index add PATH… --index {self.folder}`."
            )

    def page(self, document: str, page: int) -> StoredPage:
        """A stored page by its id.

        Raises:
            UserError: the index has no such document, or the document no such page.
        """
        row = self._db.execute(
            "SELECT pages.path, pages.sha256, page.text, page.word_boxes, pages.width, pages.height, "
            "pages.word_source, pages.ocr_reason, pages.blank, pages.problem, pages.metadata "
            "FROM pages JOIN page ON page.id = pages.id "
            "WHERE pages.document = ? AND pages.page = ? ",
            (document, page),
        ).fetchone()
        if row is None:
            total = self._db.execute("SELECT pages FROM document WHERE name = ?", (document,)).fetchone()
            if total is None:
                raise UserError(f"The index has no document «{document}»; `colsearcher index info` lists them.")
            raise UserError(f"«{document}» has pages 1 to {total[0]}; page {page} is not among those indexed.")
        path, sha256, text, boxes, width, height, source, ocr_reason, blank, problem, metadata = row
        return StoredPage(
            document=document,
            page=page,
            path=path,
            sha256=sha256,
            text=text,
            word_boxes=box_fractions(np.frombuffer(boxes, dtype="<u2").reshape(-1, 4)),
            size=(width, height),
            word_source=source,
            ocr_reason=ocr_reason,
            blank=bool(blank),
            problem=problem,
            metadata=json.loads(metadata),
        )

    def embedding(self, document: str, page: int) -> PageEmbedding:
        """The stored vectors of a page, and of a pooled page its places.

        Raises:
            UserError: the index has no such page.
        """
        self.page(document, page)

        def read() -> PageEmbedding:
            row = self._db.execute(
                "SELECT segment.file, page.start, page.rows, page.places FROM pages JOIN page USING (id) "
                "LEFT JOIN segment ON segment.id = page.segment WHERE pages.document = ? AND pages.page = ?",
                (document, page),
            ).fetchone()
            if row is None or row[2] == 0:
                dim = self.manifest.dim
                return PageEmbedding(np.empty((0, dim), np.float16), np.empty((0, 4), np.float32), np.empty((0,), bool))
            file, start, rows, places = row
            stored = Segment(self.folder / "segments" / file).page(start, rows)
            return replace(stored, places=None if places is None else decode_places(places))

        return self._consistently(read)

    def sample_vectors(self, count: int) -> np.ndarray:
        """(at most count, dim) float32: stored vectors of random pages, the same ones every time.

        Raises:
            UserError: the index holds no pages.
        """
        self.require_pages()
        return self._consistently(lambda: self._current_view().sample_vectors(count))

    def _consistently(self, read: Callable[[], Result]) -> Result:
        """Read from one moment of the index; again where a compaction took a segment file away meanwhile."""
        for _ in range(_TRIES):
            with catalog.snapshot(self._db):
                try:
                    return read()
                except FileNotFoundError:
                    continue
        raise IndexProblem(
            f"A segment file of the index at {self.folder} is missing; run `colsearcher index verify --index {self.folder}`."
        )

    def _current_view(self) -> PageView:
        version = self._db.execute("PRAGMA data_version").fetchone()[0], self._db.total_changes
        if self._view is None or self._view.version != version:
            self._view = PageView.load(self._db, self.folder / "segments", version, self._view)
        return self._view
