"""How fast pages become vectors: batched, one page at a time, and with reading and storing around it, in one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

from colsearcher.agent.flags import argument, option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import show, show_json, tell
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.corpus import Sources, find_sources
from colsearcher.retrieval.embedder import PageEmbedder, load_embedder
from colsearcher.retrieval.indexing import BATCH_PAGES, add_documents, missing_work, open_or_create
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.reading import ReadSettings, read_documents


@dataclass(frozen=True)
class EmbedTimes:
    """Pages per second of the same pages.

    Attributes:
        pages: how many.
        batched: `embed_pages` on batches as `index add` makes them, the pages at hand; timed before and after all else, so
            that a machine that grows slower or faster meanwhile is no one's advantage.
        single: `embed_pages` on one page after the other.
        index_add: reading, embedding, encoding and storing; all of the documents.
        added: pages that `index_add` is over.
        bytes_per_page: of what is stored, boxes and all.
    """

    pages: int
    batched: float
    single: float
    index_add: float
    added: int
    bytes_per_page: float


def time_embedding(
    embedder: PageEmbedder, sources: Sources, *, limit: int | None, tell: Callable[[str], None] = lambda text: None
) -> EmbedTimes:
    """Time an embedder on the first `limit` pages of files, None for all, and `index add` on all, in a temporary folder.

    Raises:
        UserError: the files have no page that can be read.
    """
    settings = replace(ReadSettings(ocr="never"), picture_pixels=embedder.picture_pixels)
    tell("reading pages")
    records = read_documents(list(sources.files), settings)
    pages = list(islice((record for record in records if isinstance(record, Page)), limit))
    records.close()
    if not pages:
        raise UserError("None of the files has a page that can be read.")
    embedder.embed_pages(pages[:BATCH_PAGES])  # weights load and shapes are tried at the first batch
    tell(f"embedding {len(pages)} pages: in batches, then one by one")
    batches = [pages[start : start + BATCH_PAGES] for start in range(0, len(pages), BATCH_PAGES)]
    before = _seconds(embedder, batches)
    some = pages[:: max(1, len(pages) // 32)]
    single = len(some) / _seconds(embedder, [[page] for page in some])
    tell("adding all pages to an index")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with open_or_create(Path(folder) / "index", embedder, settings) as index:
            with index.writing():
                report = add_documents(index, embedder, missing_work(index, sources), settings)
            seconds = time.perf_counter() - started
            info = index.info()
            stored = cast("int", info["vector_bytes"]) + cast("int", info["place_bytes"])
    tell(f"embedding {len(pages)} pages in batches again")
    batched = 2 * len(pages) / (before + _seconds(embedder, batches))
    added = report.pages_added
    return EmbedTimes(len(pages), batched, single, added / seconds, added, stored / max(added, 1))


def _seconds(embedder: PageEmbedder, batches: Sequence[Sequence[Page]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        embedder.embed_pages(batch)
    return time.perf_counter() - started


@dataclass(frozen=True)
class BenchEmbed:
    """Pages per second of an embedder: in batches, one page at a time, and as `index add`, which reads and stores around it.
    OCR is left out."""

    paths: tuple[Path, ...] = argument("PDF files, images, or folders of them")
    embedder: str = option("what turns pages into vectors", default="minilm")
    pages: int | None = option(
        "embed only the first so many pages; `index add` has all", default=None, metavar="N", within=COUNT
    )
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        sources = find_sources(self.paths)
        if not sources.files:
            raise UserError(f"There is no PDF and no image in {', '.join(map(str, self.paths))}; name a folder that has some.")
        embedder = load_embedder(self.embedder)
        tell(f"embedder {embedder.name}: {embedder.device}")
        times = time_embedding(embedder, sources, limit=self.pages, tell=tell)
        rows = {
            "batched": times.batched,
            "one page at a time": times.single,
            "index add": times.index_add,
        }
        if self.json:
            shown = {
                name: {"pages_per_s": round(rate, 2), "ratio": round(rate / times.batched, 3)} for name, rate in rows.items()
            }
            kept = {"pages": times.pages, "pages_added": times.added, "bytes_per_page": round(times.bytes_per_page)}
            show_json({"embedder": embedder.name, "device": embedder.device, "rows": shown, **kept})
            return 0
        for name, rate in rows.items():
            show(f"{name:<22}{rate:>9.2f} pages/s {rate / times.batched:>7.2f} of batched")
        show(f"{'stored':<22}{times.bytes_per_page:>9,.0f} bytes/page, {times.added:,} pages")
        return 0
