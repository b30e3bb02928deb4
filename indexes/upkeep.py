"""Keeping an index in order: what it holds, whether every byte is as written, giving back the space of removed pages."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from colsearcher.indexes import catalog
from colsearcher.indexes.errors import IndexProblem
from colsearcher.indexes.lexical import TABLES
from colsearcher.indexes.places import decode_places
from colsearcher.indexes.segment import BOX_BYTES, Segment, Storage, StoredRows, file_sha256, write_segment
from colsearcher.indexes.writer import Writer

SEGMENT_ROWS = 1_000_000


def segment_totals(db: sqlite3.Connection) -> tuple[int, int]:
    return db.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM segment").fetchone()


def info(db: sqlite3.Connection) -> dict[str, object]:
    """Counts, sizes in bytes, and the pages with problems."""

    def one(sql: str) -> int:
        return db.execute(sql).fetchone()[0]

    segments, size = segment_totals(db)
    stored, used = one("SELECT coalesce(sum(rows), 0) FROM segment"), one("SELECT coalesce(sum(rows), 0) FROM page")
    pages = dict(db.execute("SELECT word_source, count(*) FROM pages GROUP BY word_source"))
    problems = db.execute("SELECT document, page, problem FROM pages WHERE problem IS NOT NULL ORDER BY document, page")
    return {
        "documents": one("SELECT count(DISTINCT name) FROM document"),
        "incomplete_documents": one("SELECT count(*) FROM document WHERE NOT live"),
        "pages": one("SELECT count(*) FROM pages"),
        "pages_text": pages.get("text", 0),
        "pages_ocr": one("SELECT count(*) FROM pages WHERE ocr_reason IS NOT NULL"),
        "ocr_reasons": dict(
            db.execute("SELECT ocr_reason, count(*) FROM pages WHERE ocr_reason IS NOT NULL GROUP BY ocr_reason")
        ),
        "pages_blank": one("SELECT count(*) FROM pages WHERE blank"),
        "vectors": used,
        "vectors_unused": stored - used,
        "segments": segments,
        "vector_bytes": size,
        "place_bytes": one("SELECT coalesce(sum(length(places)), 0) FROM page"),
        "catalog_bytes": one("PRAGMA page_count") * one("PRAGMA page_size"),
        "problems": [{"document": d, "page": p, "reason": r} for d, p, r in problems],
    }


def verify(db: sqlite3.Connection, segments_folder: Path) -> list[str]:
    """Read everything back: checksums of the segments, SQLite's own check, the pages' ranges, the words and their boxes.

    Returns:
        One sentence per fault, empty when all is well.
    """
    faults = [f"catalog: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    for segment_id, file, sha256 in db.execute("SELECT id, file, sha256 FROM segment").fetchall():
        path = segments_folder / file
        if not path.is_file():
            if db.execute("SELECT 1 FROM segment WHERE file = ?", (file,)).fetchone() is None:
                continue  # a compaction has replaced it since the list was read
            faults.append(f"segments/{file} is missing; {_owners(db, segment_id)}")
        elif file_sha256(path) != sha256:
            faults.append(f"segments/{file} does not have the checksum it was written with; {_owners(db, segment_id)}")
    end: dict[int, int] = {}
    total = dict(db.execute("SELECT id, rows FROM segment"))
    for segment_id, start, rows in db.execute("SELECT segment, start, rows FROM page WHERE rows > 0 ORDER BY segment, start"):
        if segment_id not in total or start < end.get(segment_id, 0) or start + rows > total[segment_id]:
            faults.append(f"catalog: a page's rows {start}–{start + rows} do not fit segment {segment_id}")
        end[segment_id] = start + rows
    faults += _place_faults(db) + _word_faults(db)
    # FTS5's own check needs a catalog that may be written; a read-only one has been checked by SQLite above.
    for table in TABLES if not _read_only(db) else ():
        try:
            db.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as error:
            faults.append(f"catalog: the word index {table} does not match the pages ({error})")
    return faults


def _place_faults(db: sqlite3.Connection) -> list[str]:
    faults = []
    pages = "SELECT name, number, rows, places FROM page JOIN document ON document.id = page.document WHERE places IS NOT NULL"
    for name, number, rows, blob in db.execute(pages):
        try:
            owner = decode_places(blob).owner
            fits = not len(owner) or int(owner.max()) < rows
        except ValueError:
            fits = False
        if not fits:
            faults.append(f"catalog: the places of {name} page {number} do not fit its vectors; remove and add again: {name}.")
    return faults


def _word_faults(db: sqlite3.Connection) -> list[str]:
    faults = []
    pages = "SELECT name, number, text, length(word_boxes) FROM page JOIN document ON document.id = page.document"
    for name, number, text, size in db.execute(pages):
        if size != BOX_BYTES * len(text.split()):
            faults.append(f"catalog: the words of {name} page {number} do not fit their boxes; remove and add again: {name}.")
    return faults


def file_faults(path: Path, sha256: str) -> list[str]:
    """What is wrong with a file of the index that has to have a checksum."""
    if not path.is_file():
        return [f"{path.name} is missing; put the file with sha256 {sha256[:12]}… there again."]
    if file_sha256(path) != sha256:
        return [
            f"{path.name} does not have the checksum it was written with; put the file with sha256 {sha256[:12]}… there again."
        ]
    return []


def _owners(db: sqlite3.Connection, segment_id: int) -> str:
    names = [
        row[0]
        for row in db.execute(
            "SELECT DISTINCT name FROM document JOIN page ON page.document = document.id WHERE segment = ? ORDER BY 1",
            (segment_id,),
        )
    ]
    return f"remove and add again: {', '.join(names)}."


def _read_only(db: sqlite3.Connection) -> bool:
    file = Path(db.execute("PRAGMA database_list").fetchone()[2])
    return not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def compact(db: sqlite3.Connection, segments_folder: Path, storage: Storage) -> dict[str, int]:
    """Rewrite the vectors without gaps into segments of `SEGMENT_ROWS`. Readers go on undisturbed.

    Returns:
        `segments_before`, `segments_after`, `bytes_before`, `bytes_after`.

    Raises:
        IndexProblem: a segment is not as it was written.
    """
    writer = Writer(db, segments_folder, storage)
    before = segment_totals(db)
    old = dict(db.execute("SELECT id, file FROM segment"))
    for segment_id, file, sha256 in db.execute("SELECT id, file, sha256 FROM segment").fetchall():
        path = segments_folder / file
        if not path.is_file() or file_sha256(path) != sha256:
            raise IndexProblem(f"segments/{file} is damaged, and compacting would hide that; {_owners(db, segment_id)}")
    groups = _groups(db)
    written = [write_segment(segments_folder, _rows(segments_folder, old, group), storage) for group in groups]
    with catalog.transaction(db):
        for group, segment in zip(groups, written, strict=True):
            segment_id = writer.insert_segment(segment)
            start = 0
            for page_id, _, _, rows in group:
                db.execute("UPDATE page SET segment = ?, start = ? WHERE id = ?", (segment_id, start, page_id))
                start += rows
        db.executemany("DELETE FROM segment WHERE id = ?", [(i,) for i in old])
        for table in TABLES:
            db.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")
    writer.unlink(old.values())
    db.execute("VACUUM")
    after = segment_totals(db)
    return {
        "segments_before": before[0],
        "segments_after": after[0],
        "bytes_before": before[1],
        "bytes_after": after[1],
    }


def _groups(db: sqlite3.Connection) -> list[list[tuple[int, int, int, int]]]:
    """The pages with vectors, (id, segment, start, rows) in the order of storage, cut into future segments."""
    groups: list[list[tuple[int, int, int, int]]] = []
    size = SEGMENT_ROWS
    for page in db.execute("SELECT id, segment, start, rows FROM page WHERE rows > 0 ORDER BY segment, start"):
        if size + page[3] > SEGMENT_ROWS:
            groups.append([])
            size = 0
        groups[-1].append(page)
        size += page[3]
    return groups


def _rows(folder: Path, files: dict[int, str], group: list[tuple[int, int, int, int]]) -> list[StoredRows]:
    segments = {segment_id: Segment(folder / files[segment_id]) for segment_id in {page[1] for page in group}}
    return [segments[segment_id].rows(start, rows) for _, segment_id, start, rows in group]
