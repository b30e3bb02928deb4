"""From files to an index: read, embed, store, batch by batch, so that a kill loses at most the batch in hand.

Unchanged files (by content hash) cost a hash and nothing else; a changed file's old pages stay visible until all of its new
ones are stored; a run that was cut short goes on with the pages it lacks. Reading (in worker processes), embedding and storing
overlap; what is stored is always the beginning of what was read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from colsearcher.indexes.errors import FileProblem, IndexProblem
from colsearcher.indexes.manifest import DEFAULT_CODEC, Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.page_pooling import PagePooling
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, PageRecord
from colsearcher.retrieval.corpus import ReadProblem, Source, Sources, content_hash, is_another_file
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.ocr import OcrEngine
from colsearcher.retrieval.page import Page, Words
from colsearcher.retrieval.pipeline import InOrder, read_ahead
from colsearcher.retrieval.projection import keep_projection
from colsearcher.retrieval.reading import DocumentInfo, Read, ReadSettings, read_documents

BATCH_PAGES = 32
# The first batch is smaller, so that the model need not wait for so many pages to be read.
_FIRST_PAGES = 8
BATCH_SECONDS = 10.0
# Batches that are embedded at once: the pages of the second are made ready while the model is at work on the first.
_EMBEDDING = 2


@dataclass(frozen=True)
class Progress:
    """How far an indexing run is, told after each page read and each committed batch.

    Attributes:
        document: the one being read.
        pages_read: of this run.
        ocr_read: pages among `pages_read` that needed OCR.
    """

    document: str
    pages_read: int
    ocr_read: int


@dataclass
class IndexReport:
    """What a run did. `problems` names every file and page that could not be read, with its reason."""

    documents_added: int = 0
    documents_replaced: int = 0
    documents_unchanged: int = 0
    documents_recovered: list[str] = field(default_factory=list)
    pages_added: int = 0
    pages_ocr: int = 0
    pages_unchanged: int = 0
    files_ignored: int = 0
    problems: list[ReadProblem] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Work:
    """What an index lacks of some sources.

    Attributes:
        to_read: files that are new, changed, or not read to their end.
        hashes: their content hashes by document id.
        stored: the pages of them that the index holds already.
        unchanged: documents that the index holds as they are.
        problems: files and folders that cannot be read.
        ignored: how many files are neither PDF nor image.
    """

    to_read: tuple[Source, ...]
    hashes: dict[str, str]
    stored: dict[str, frozenset[int]]
    unchanged: tuple[DocumentRecord, ...]
    problems: tuple[ReadProblem, ...]
    ignored: int


def open_or_create(
    folder: Path,
    embedder: PageEmbedder,
    settings: ReadSettings,
    *,
    codec: str | None = None,
    drop_originals: bool = False,
    pool: str | None = None,
) -> PageIndex:
    """The index at a folder, made if there is none.

    Args:
        codec: how a new index stores vectors, a name in `colsearcher.indexes.codecs`; None for the default.
        drop_originals: keep the codes only, so that no page can be scored exactly.
        pool: how a new index pools pages, as `PagePooling.parse` reads it; None for not at all.

    Raises:
        UserError: there is no such codec or way of pooling.
        IndexProblem: it was made by another embedder, renderer, OCR setting, codec or way of pooling.
    """
    pooling = PagePooling.parse(pool or "none")
    if not PageIndex.exists(folder):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ocr_model = "" if settings.ocr == "never" else OcrEngine.name
        made = Manifest(
            embedder=embedder.name,
            revision=embedder.revision,
            dim=embedder.dim,
            block_rows=0 if pooling else embedder.block_rows,
            renderer=settings.renderer,
            ocr=settings.ocr,
            ocr_model=ocr_model,
            created=now,
            codec=codec or DEFAULT_CODEC,
            originals=not drop_originals,
            pool=str(pooling or ""),
            projection=keep_projection(folder, embedder),
        )
        return PageIndex.create(folder, made)
    index = PageIndex.open(folder)
    manifest = index.manifest
    manifest.require_embedder(embedder.name, embedder.revision)
    if drop_originals and manifest.originals:
        raise IndexProblem(f"The index at {folder} keeps its original vectors; leave --drop-originals out.")
    options = (
        ("renderer", settings.renderer, manifest.renderer),
        ("ocr", settings.ocr, manifest.ocr),
        ("codec", codec or manifest.codec, manifest.codec),
        ("pool", str((pooling if pool else manifest.pooling) or "none"), manifest.pool or "none"),
    )
    for option, wanted, made_with in options:
        if wanted != made_with:
            raise IndexProblem(
                f"The index at {folder} was made with --{option} {made_with}, not {wanted}; "
                f"leave the option out, or make a second index in another folder."
            )
    return index


def made_with(folder: Path | None) -> Manifest | None:
    """What the index at a folder was made with; None where there is none yet.

    Raises:
        IndexProblem: it is no index that can be read.
    """
    if folder is None or not PageIndex.exists(folder):
        return None
    with PageIndex.open(folder) as index:
        return index.manifest


def read_settings(
    embedder: PageEmbedder, made: Manifest | None, *, renderer: str | None, ocr: str | None, page_seconds: float = 60.0
) -> ReadSettings:
    """How to read pages: as asked for, else as the index was made, else with pdfium, and OCR where a page has no words.

    An embedder that looks at pages needs no words, so for it OCR is off unless asked for. Words of a scan are then missing
    only where they count beside the vectors: in BM25 and in what a text policy reads.
    """
    by_default = "never" if embedder.picture_pixels else "auto"
    return ReadSettings(
        renderer=renderer or (made.renderer if made else "pdfium"),  # type: ignore[arg-type]
        ocr=ocr or (made.ocr if made else by_default),  # type: ignore[arg-type]
        page_seconds=page_seconds,
    )


def missing_work(index: PageIndex | None, sources: Sources, *, retry: bool = False) -> Work:
    """Compare the sources with what an index (None: an empty one) holds.

    Args:
        retry: read pages again that were stored with a problem.
    """
    live = {record.document: record for record in index.documents()} if index else {}
    to_read, hashes, stored, unchanged, problems = [], {}, {}, [], list(sources.problems)
    for source in sources:
        if not _is_text(str(source.path)):
            reason = "The name of the file or of a folder above it is not UTF-8; rename it."
            problems.append(ReadProblem(source.document, None, reason))
            continue
        try:
            sha256 = content_hash(source.path)
        except FileProblem as problem:
            problems.append(ReadProblem(source.document, None, str(problem)))
            continue
        known = live.get(source.document)
        if known and known.sha256 != sha256 and is_another_file(Path(known.path), source.path):
            reason = (
                f"The index has another file of this name, {known.path}. Add the folder above both, rename one, or take the "
                "other out with `colsearcher index rm`."
            )
            problems.append(ReadProblem(source.document, None, reason))
            continue
        record = DocumentRecord(source.document, str(source.path), sha256, known.pages if known else 0)
        pages = index.stored_pages(record) if index else {}
        kept = frozenset(number for number, problem in pages.items() if not (retry and problem))
        if known and known.sha256 == sha256 and len(kept) == known.pages:
            unchanged.append(DocumentRecord(source.document, str(source.path), sha256, known.pages, known.metadata))
            continue
        to_read.append(source)
        hashes[source.document] = sha256
        stored[source.document] = kept
    return Work(tuple(to_read), hashes, stored, tuple(unchanged), tuple(problems), sources.ignored)


def add_documents(
    index: PageIndex,
    embedder: PageEmbedder,
    work: Work,
    settings: ReadSettings,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    read: Read = read_documents,
) -> IndexReport:
    """Do the work that `missing_work` found. Files that cannot be read are reported and never stop the run.

    Call both inside one `index.writing()`, so that nobody changes the index in between. Documents that are in the index but
    not among the sources stay (`PageIndex.remove` removes them).

    Args:
        on_progress: told after each page.
        read: where the pages come from.
    """
    started = time.monotonic()
    stored = {record.document: record.path for record in index.documents()}
    half_replaced = index.half_replaced()
    index.add([r for r in work.unchanged if stored[r.document] != r.path or r.document in half_replaced], [])
    settings = replace(settings, picture_pixels=embedder.picture_pixels)
    with _Run(index, embedder, work, on_progress) as run:
        for record in read_ahead(read(work.to_read, settings, skip=work.stored), BATCH_PAGES):
            run.take(record)
        run.commit()
    report = run.report
    report.files_ignored = work.ignored
    report.documents_unchanged = len(work.unchanged)
    report.pages_unchanged = sum(record.pages for record in work.unchanged)
    report.seconds = time.monotonic() - started
    return report


@dataclass(frozen=True)
class _Batch:
    """Pages on their way into the index, with the documents that they are the first stored pages of or go on with."""

    pages: tuple[Page | ReadProblem, ...]
    documents: tuple[DocumentRecord, ...]


class _Run:
    def __init__(self, index: PageIndex, embedder: PageEmbedder, work: Work, on_progress: Callable[[Progress], None]) -> None:
        self._index = index
        self._embedder = embedder
        self._work = work
        self._on_progress = on_progress
        self._paths = {source.document: str(source.path) for source in work.to_read}
        self._old = {record.document: record.sha256 for record in index.documents()}
        self._records: dict[str, DocumentRecord] = {}
        self._pending: list[Page | ReadProblem] = []
        self._since = time.monotonic()
        self._read = 0
        self._telling = threading.Lock()
        self._storing = InOrder(self._embedded, self._store, _EMBEDDING)
        self.report = IndexReport(problems=list(work.problems))

    def __enter__(self) -> Self:
        self._storing.__enter__()
        if self._work.to_read:
            self._storing.before(self._index.prepare)
        return self

    def __exit__(self, *error: Any) -> None:
        self._storing.__exit__(*error)

    def take(self, record: DocumentInfo | Page | ReadProblem) -> None:
        if isinstance(record, DocumentInfo):
            self._document(record)
            return
        if isinstance(record, ReadProblem):
            self.report.problems.append(record)
            if record.page is None:
                return
        elif record.word_source == "ocr":
            self.report.pages_ocr += 1
        self._read += 1
        self._pending.append(record)
        self._tell(record.document)
        enough = BATCH_PAGES if self._storing.begun else _FIRST_PAGES
        if len(self._pending) >= enough or time.monotonic() - self._since > BATCH_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Have what has been read embedded and stored; batches reach the disk in their order."""
        names = {record.document: None for record in self._pending}
        self._storing.give(_Batch(tuple(self._pending), tuple(self._records[name] for name in names)))
        self._pending = []
        self._since = time.monotonic()

    def _embedded(self, batch: _Batch) -> list[PageRecord]:
        pages = [page for page in batch.pages if isinstance(page, Page)]
        embeddings = iter(self._embedder.embed_pages(pages)) if pages else iter(())
        return [
            page_record(page, next(embeddings)) if isinstance(page, Page) else _problem_record(page, self._embedder.dim)
            for page in batch.pages
        ]

    def _store(self, batch: _Batch, records: list[PageRecord]) -> None:
        self._index.add(batch.documents, records)
        self.report.pages_added += len(records)
        if records:
            self._tell(records[-1].document)

    def _document(self, info: DocumentInfo) -> None:
        sha256 = self._work.hashes[info.document]
        self._records[info.document] = DocumentRecord(
            info.document, self._paths[info.document], sha256, info.pages, info.metadata
        )
        if info.recovered:
            self.report.documents_recovered.append(info.document)
        if self._old.get(info.document, sha256) != sha256:
            self.report.documents_replaced += 1
        else:
            self.report.documents_added += 1

    def _tell(self, document: str) -> None:
        with self._telling:
            self._on_progress(Progress(document, self._read, self.report.pages_ocr))


def page_record(page: Page, embedding: PageEmbedding) -> PageRecord:
    """A page and its vectors as the index stores them."""
    words = Words.of(page.words)
    return PageRecord(
        page.document,
        page.number,
        embedding,
        " ".join(words.texts),
        np.array(words.corners, dtype=np.float32).reshape(-1, 4),
        page.size,
        page.word_source,
        page.ocr_reason,
        page.blank,
    )


def _problem_record(problem: ReadProblem, dim: int) -> PageRecord:
    nothing = PageEmbedding(np.empty((0, dim), np.float32), np.empty((0, 4), np.float32), np.empty(0, bool))
    assert problem.page is not None
    return PageRecord(problem.document, problem.page, nothing, "", np.empty((0, 4)), (0.0, 0.0), "none", problem=problem.reason)


def _is_text(name: str) -> bool:
    """False for a file name of bytes that no encoding explains; it cannot be stored or printed."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
