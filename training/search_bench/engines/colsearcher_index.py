"""This project's `PageIndex`, as a user has it: pages added in batches, tuned, `search` called for its hits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, PageRecord, QueryEmbedding

DIM, BATCH_PAGES = 128, 256
DOCUMENT_PAGES = 1_024
_BOX_BYTES = 9


class Engine:
    def __init__(self, codec: str, originals: bool) -> None:
        self._codec = codec
        self._originals = originals
        self._plan: dict[str, object] = {}

    def build(self, data: Path, index: Path) -> None:
        offsets = np.load(data / "offsets.npy")
        pages = len(offsets) - 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest("bench", "bench", DIM, 0, "none", "never", "", now, self._codec, self._originals)
        with PageIndex.create(index / "index", manifest) as made, made.writing():
            for first in range(0, pages, BATCH_PAGES):
                last = min(first + BATCH_PAGES, pages)
                vectors = _rows(data / "vectors.npy", offsets[first], offsets[last])
                embeddings = np.split(vectors, offsets[first + 1 : last] - offsets[first])
                documents = {i // DOCUMENT_PAGES for i in (first, last - 1)}
                made.add(
                    [_document(number, pages) for number in sorted(documents)],
                    [_page(first + i, vectors) for i, vectors in enumerate(embeddings)],
                )
            made.tune()
        self.open(index)

    def open(self, index: Path) -> None:
        self._folder = index / "index"
        self._index = PageIndex.open(self._folder)

    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]:
        results = self._index.search([_query(vectors) for vectors in queries], k, ranking="late")
        if len(queries) == 1:
            self._plan = {name: results[0].plan[name] for name in ("engine", "reason")}
        return [[_number(hit.document, hit.page) for hit in result.hits] for result in results]

    def bytes(self) -> int:
        """Without the boxes of the vectors and their flags, which no other engine stores; `facts` has them in."""
        return self._all_bytes() - _BOX_BYTES * int(self._index.info()["vectors"])  # type: ignore[call-overload]

    def facts(self) -> dict[str, object]:
        return {"plan": self._plan, "bytes_with_boxes": self._all_bytes()}

    def _all_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())


def _rows(file: Path, start: int, stop: int) -> np.ndarray:
    """(stop - start, D) float16, copied, so that the process holds no more of the file than it works on."""
    return np.array(np.load(file, mmap_mode="r")[start:stop])


def _document(number: int, pages: int) -> DocumentRecord:
    return DocumentRecord(f"part-{number:03}.pdf", "", "bench", min(DOCUMENT_PAGES, pages - number * DOCUMENT_PAGES))


def _page(number: int, vectors: np.ndarray) -> PageRecord:
    n = len(vectors)
    embedding = PageEmbedding(vectors, np.zeros((n, 4), np.float32), np.zeros(n, bool))
    document, page = divmod(number, DOCUMENT_PAGES)
    return PageRecord(f"part-{document:03}.pdf", page + 1, embedding, "", np.empty((0, 4)), (595.0, 842.0), "none")


def _query(vectors: np.ndarray) -> QueryEmbedding:
    n = len(vectors)
    return QueryEmbedding(vectors, np.ones(n, np.float32), ("",) * n, np.zeros(n, bool), "")


def _number(document: str, page: int) -> int:
    return int(document.removeprefix("part-").removesuffix(".pdf")) * DOCUMENT_PAGES + page - 1
