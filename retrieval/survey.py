"""What indexing would have to do, found out without doing it: pages by kind, and seconds a page measured on three of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from colsearcher.indexes.errors import FileProblem
from colsearcher.indexes.page_pooling import PagePooling
from colsearcher.retrieval.corpus import ReadProblem, Source
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.page_reader import PageReader
from colsearcher.retrieval.reading import DocumentInfo, ReadSettings, read_documents

# How much longer a page takes that needs OCR than one that does not, before anything has been measured.
OCR_UNITS = 12.0
# Bytes a vector takes beside its values: the box, the special flag.
ROW_BYTES = 9
_SAMPLES = 3


@dataclass
class Survey:
    """The pages of some sources by what they need.

    Attributes:
        documents: readable documents and how many of their pages are wanted.
        ocr: per document, the numbers of the wanted pages that need OCR.
        text: per document, those that have words of their own.
        blank: how many wanted pages are blank.
        problems: files and pages that cannot be read.
    """

    documents: dict[str, int] = field(default_factory=dict)
    ocr: dict[str, set[int]] = field(default_factory=dict)
    text: dict[str, set[int]] = field(default_factory=dict)
    blank: int = 0
    problems: list[ReadProblem] = field(default_factory=list)

    @property
    def pages(self) -> int:
        return sum(self.documents.values())

    @property
    def pages_ocr(self) -> int:
        return sum(len(pages) for pages in self.ocr.values())

    @property
    def pages_text(self) -> int:
        return sum(len(pages) for pages in self.text.values())


@dataclass(frozen=True)
class Costs:
    """Seconds and vectors a page, measured on sample pages with all cores at work; None where no page was of that kind."""

    pages: tuple[str, ...]
    read_text_s: float | None
    read_ocr_s: float | None
    embed_s: float
    vectors: float

    def seconds(self, pages_text: int, pages_ocr: int) -> float:
        """Expected wall time: OCR keeps every core busy and so does embedding, so they add up."""
        reading = pages_text * (self.read_text_s or 0.0) + pages_ocr * (self.read_ocr_s or 0.0)
        return reading + (pages_text + pages_ocr) * self.embed_s


def survey(sources: Sequence[Source], settings: ReadSettings, *, skip: Mapping[str, AbstractSet[int]] | None = None) -> Survey:
    """Open every file and look at every page's text layer; no OCR, no models.

    Args:
        skip: pages that are not wanted, document id to numbers.
    """
    result = Survey()
    skip = skip or {}
    for record in read_documents(sources, replace(settings, ocr="never", ocr_side=200), skip=skip):
        if isinstance(record, ReadProblem):
            result.problems.append(record)
        elif isinstance(record, DocumentInfo):
            result.documents[record.document] = record.pages - len(skip.get(record.document, ()))
        elif record.blank:
            result.blank += 1
        elif settings.ocr == "always" or (settings.ocr == "auto" and record.ocr_reason):
            result.ocr.setdefault(record.document, set()).add(record.number)
        else:
            result.text.setdefault(record.document, set()).add(record.number)
    return result


def measure(
    sources: Sequence[Source],
    found: Survey,
    settings: ReadSettings,
    embedder: PageEmbedder,
    pooling: PagePooling | None = None,
) -> Costs | None:
    """Read, embed and pool up to three pages, of both kinds where there are both, and time it. None without pages."""
    by_name = {source.document: source for source in sources}
    text = [(name, number) for name, numbers in found.text.items() for number in sorted(numbers)]
    ocr = [(name, number) for name, numbers in found.ocr.items() for number in sorted(numbers)]
    chosen_ocr = _spread(ocr, 1 if text else _SAMPLES)
    chosen_text = _spread(text, _SAMPLES - len(chosen_ocr))
    cores = len(os.sched_getaffinity(0))
    with PageReader(settings, cores) as reader:
        times: dict[str, list[float]] = {"text": [], "ocr": []}
        pages: list[Page] = []
        for kind, chosen in (("ocr", chosen_ocr), ("text", chosen_text)):
            for i, (name, number) in enumerate(chosen):
                try:
                    if i == 0:
                        reader.page(by_name[name], number)  # models load at the first page; that is no page's cost
                    started = time.perf_counter()
                    pages.append(reader.page(by_name[name], number))
                except FileProblem as problem:
                    found.problems.append(ReadProblem(name, number, str(problem)))
                    continue
                times[kind].append(time.perf_counter() - started)
    if not pages:
        return None
    embedder.embed_pages(pages[:1])
    started = time.perf_counter()
    embeddings = embedder.embed_pages(pages)
    if pooling is not None:
        embeddings = [pooling.apply(embedding) for embedding in embeddings]
    embed_s = (time.perf_counter() - started) / len(pages)
    vectors = sum(len(embedding.vectors) for embedding in embeddings) / len(pages)
    mean = {kind: sum(values) / len(values) if values else None for kind, values in times.items()}
    names = tuple(str(page.address) for page in pages)
    # Pages with text are read by all processes at once, while the measurement ran one.
    read_text = mean["text"] / cores if mean["text"] is not None else None
    return Costs(names, read_text, mean["ocr"], embed_s, vectors)


def _spread(items: Sequence[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """`count` items from evenly over the list."""
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]
