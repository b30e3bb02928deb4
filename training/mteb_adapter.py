"""`mteb`'s retrieval tasks (ViDoRe V1 to V3 among them), answered by a `PageEmbedder` through this project's index and scoring.

`IndexedModel` implements mteb's `SearchProtocol`: a corpus becomes `Page`s in a temporary `PageIndex`, a query is ranked by
`PageIndex.search`, exactly. `mteb_evaluation` runs tasks with it. The metrics are mteb's; trec_eval, which it asks, puts pages
with equal scores in falling order of their ids, whatever order they came in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from PIL import Image

from colsearcher.indexes.errors import MissingExtra
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.ranking import Ranking
from colsearcher.indexes.records import DocumentRecord
from colsearcher.retrieval.corpus import Source
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.indexing import page_record
from colsearcher.retrieval.minilm import MiniLMEmbedder
from colsearcher.retrieval.ocr import OcrEngine
from colsearcher.retrieval.page import Page, PageImage, Word
from colsearcher.retrieval.page_reader import PageReader, ReadSettings
from colsearcher.retrieval.searcher import Searcher

_PAGES, _QUERIES = 32, 16
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})


def load_mteb() -> Any:
    """The module `mteb`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import mteb
        import mteb.types
    except ModuleNotFoundError:
        raise MissingExtra(
            "The evaluation needs the package mteb, which is not installed; run pip install 'colsearcher[mteb]'."
        ) from None
    return mteb


class IndexedModel:
    """mteb's `SearchProtocol` over an embedder. A context manager: what it indexed is on the disk until it is closed.

    A corpus that is indexed again right after itself (ViDoRe V2 and V3 ask the same pages in several languages) is not
    embedded again.

    Args:
        embedder: turns pages and queries into vectors. MiniLM gets the words of a picture from OCR.
        ranking: how the index ranks; "late" is the embedder alone.
        tell: takes one line on each step.
    """

    def __init__(
        self, embedder: PageEmbedder, *, ranking: Ranking = "late", tell: Callable[[str], None] = lambda line: None
    ) -> None:
        self.embedder = embedder
        self.ranking = ranking
        self.searcher: Searcher | None = None
        self._tell = tell
        self._indexed = ""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._meta = load_mteb().models.ModelMeta.create_empty(
            {
                "name": f"colsearcher/{re.sub(r'[^A-Za-z0-9._-]+', '-', embedder.name).strip('-')}",
                "revision": embedder.revision,
                "embed_dim": embedder.dim,
                "modalities": ["text", "image"],
                "model_type": ["late-interaction"],
                # mteb gives each set of these a folder of its own; the default ranking has none.
                "experiment_kwargs": None if ranking == "late" else {"ranking": ranking},
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was indexed."""
        if self.searcher is not None:
            self.searcher.index.close()
        if self._folder is not None:
            self._folder.cleanup()
        self.searcher, self._folder, self._indexed = None, None, ""

    @property
    def mteb_model_meta(self) -> Any:
        """The `ModelMeta` that names the results."""
        return self._meta

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **_: Any) -> None:
        """Index a corpus; see mteb's `SearchProtocol.index`.

        Args:
            corpus: dataset rows with `id`, and `image` or `text` (and `title`), or both, as the task's category says.
        """
        kinds = set(task_metadata.get_modalities(load_mteb().types.PromptType.document))
        key = _fingerprint(corpus, kinds)
        where = f"{task_metadata.name} ({hf_split}, {hf_subset})"
        if key == self._indexed:
            self._tell(f"{where}: the same {len(corpus):,} pages, indexed already")
            return
        self.close()
        self._tell(f"{where}: indexing {len(corpus):,} pages")
        self._folder = tempfile.TemporaryDirectory()
        index = PageIndex.create(Path(self._folder.name) / "index", _manifest(self.embedder))
        self.searcher = Searcher(index, self.embedder)
        done = 0
        with index.writing():
            for pages in _batches(corpus, kinds, isinstance(self.embedder, MiniLMEmbedder)):
                embeddings = self.embedder.embed_pages(pages)
                index.add(
                    [DocumentRecord(page.document, "", key, 1) for page in pages],
                    [page_record(page, embedding) for page, embedding in zip(pages, embeddings, strict=True)],
                )
                before, done = done, done + len(pages)
                if done * 10 // len(corpus) > before * 10 // len(corpus):
                    self._tell(f"{done:,} of {len(corpus):,} pages indexed")
        self._indexed = key

    def search(self, queries: Any, *, top_k: int, top_ranked: Any = None, **_: Any) -> dict[str, dict[str, float]]:
        """Rank the indexed pages for each query; see mteb's `SearchProtocol.search`.

        Args:
            queries: dataset rows with `id` and `text`.
            top_k: at most so many pages a query.
            top_ranked: the only pages that count for each query, None for all.

        Returns:
            query id -> page id -> score.
        """
        assert self.searcher is not None
        ids, texts = list(queries["id"]), list(queries["text"])
        k = top_k if top_ranked is None else len(self.searcher.index.pages())
        self._tell(f"asking {len(ids):,} questions")
        found = {}
        for start in range(0, len(ids), _QUERIES):
            some = texts[start : start + _QUERIES]
            results = self.searcher.search(some, k, ranking=self.ranking, recall=1.0)
            for name, result in zip(ids[start : start + _QUERIES], results, strict=True):
                hits = [hit for hit in result.hits if top_ranked is None or hit.document in top_ranked[name]]
                found[name] = {hit.document: hit.score for hit in hits[:top_k]}
        return found


def _manifest(embedder: PageEmbedder) -> Manifest:
    ocr = ("auto", OcrEngine.name) if isinstance(embedder, MiniLMEmbedder) else ("never", "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Manifest(embedder.name, embedder.revision, embedder.dim, embedder.block_rows, "pdfium", *ocr, now)


def _fingerprint(corpus: Any, kinds: set[str]) -> str:
    """A hash of all that is indexed of a corpus; pictures are hashed as they are stored."""
    from datasets import Image as ImageFeature

    digest = hashlib.sha256()
    if "image" in kinds:
        corpus = corpus.cast_column("image", ImageFeature(decode=False))
    for row in corpus:
        digest.update(json.dumps([row["id"], _text(row) if "text" in kinds else ""]).encode())
        if "image" in kinds:
            digest.update(hashlib.sha256(row["image"]["bytes"] or row["image"]["path"].encode()).digest())
    return digest.hexdigest()


def _text(row: Any) -> str:
    return f"{row.get('title') or ''} {row.get('text') or ''}".strip()


def _batches(corpus: Any, kinds: set[str], reads_words: bool) -> Iterator[list[Page]]:
    """The rows as pages, a batch at a time; a batch's pictures are on the disk until the next one is asked for."""
    with PageReader(ReadSettings(ocr="auto"), os.cpu_count() or 1) as reader:
        for start in range(0, len(corpus), _PAGES):
            with tempfile.TemporaryDirectory() as folder:
                rows = (corpus[i] for i in range(start, min(start + _PAGES, len(corpus))))
                by_ocr = reader if reads_words and "text" not in kinds else None
                yield [_page(row, kinds, Path(folder) / f"{n}.png", by_ocr) for n, row in enumerate(rows)]


def _page(row: Any, kinds: set[str], path: Path, reader: PageReader | None) -> Page:
    """A row of a corpus as a page; the reader, if any, reads the words off its picture."""
    words = tuple(Word(word, (0.0, 0.0, 1.0, 1.0)) for word in _text(row).split()) if "text" in kinds else ()
    if "image" not in kinds:
        return Page(row["id"], 1, None, (595.0, 842.0), words, "text")
    picture: Image.Image = row["image"]
    (picture if picture.mode in _PNG_MODES else picture.convert("RGB")).save(path, compress_level=1)
    if reader is not None:
        return reader.page(Source(row["id"], path, "image"), 1)
    size = (float(picture.width), float(picture.height))
    return Page(row["id"], 1, PageImage(path, 1, "image"), size, words, "text" if words else "none")
