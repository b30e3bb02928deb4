"""Copies of an index whose pages are stored in another way, to measure what that costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, PageRecord

_PAGES = 256


def require_originals(index: PageIndex, compared: str) -> None:
    """Refuse to compare ways of storing vectors on an index that has lost them already.

    Args:
        compared: what is compared, in the plural.

    Raises:
        UserError: the index keeps codes alone.
    """
    if not index.manifest.storage.exact:
        raise UserError(
            f"The index at {index.folder} keeps codes alone; make one without --drop-originals to compare {compared}."
        )


def copy_index(
    index: PageIndex, folder: Path, manifest: Manifest, change: Callable[[PageEmbedding], PageEmbedding] = lambda page: page
) -> PageIndex:
    """The same pages in a new index, each embedding changed and then stored as the manifest says."""
    copy = PageIndex.create(folder, manifest)
    records = {record.document: record for record in index.documents()}
    with copy.writing():
        for batch in _batches(index, change):
            documents: list[DocumentRecord] = [records[name] for name in dict.fromkeys(page.document for page in batch)]
            copy.add(documents, batch)
    return copy


def _batches(index: PageIndex, change: Callable[[PageEmbedding], PageEmbedding]) -> Iterator[list[PageRecord]]:
    for _, places in groupby(enumerate(index.pages()), key=lambda item: item[0] // _PAGES):
        yield [_record(index, *place, change) for _, place in places]


def _record(index: PageIndex, document: str, number: int, change: Callable[[PageEmbedding], PageEmbedding]) -> PageRecord:
    page = index.page(document, number)
    return PageRecord(
        document,
        number,
        change(index.embedding(document, number)),
        page.text,
        page.word_boxes,
        page.size,
        page.word_source,
        page.ocr_reason,
        page.blank,
        page.problem,
    )
