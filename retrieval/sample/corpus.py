"""Writes the sample corpus: four PDFs, a flyer, and the questions whose answers and boxes are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pypdfium2

from colsearcher.indexes.address import Address, Box
from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.flyer import draw_flyer
from colsearcher.retrieval.sample.letter import draw_letter
from colsearcher.retrieval.sample.manual import draw_manual
from colsearcher.retrieval.sample.questions import ANSWERABLE, UNANSWERABLE, Place, Question, document_of
from colsearcher.retrieval.sample.report import draw_report
from colsearcher.retrieval.sample.slides import draw_slides

_MARGIN = 0.004  # of the page, around the words of an answer


@dataclass(frozen=True)
class SampleCorpus:
    """Where the corpus lies.

    Attributes:
        documents: the files to index, four PDFs and one picture.
        questions: `qa.jsonl`, questions with an answer.
        unanswerable: `qa_unanswerable.jsonl`, questions that only sound as if they had one.
    """

    documents: tuple[Path, ...]
    questions: Path
    unanswerable: Path


def write_sample_corpus(folder: Path, *, seed: int = 0) -> SampleCorpus:
    """Draw the corpus into a folder, which is made if needed; files of the same name are replaced.

    The same seed gives the same bytes with the same versions of the libraries. The seed sets the scan's noise and tilt.

    Each line of `questions` has `id`, `doc`, `question`, `answers`, `evidence_pages` (1-based, those in `doc`), `evidence`
    (the addresses of all pages needed) and `boxes` (addresses with the box in which the answer stands).
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw_report(folder / facts.REPORT)
    draw_manual(folder / facts.MANUAL)
    scans = draw_letter(folder / facts.LETTER, seed)
    pictures = {(facts.LETTER, number): scan for number, scan in enumerate(scans, start=1)}
    pictures[facts.SLIDES, 6] = draw_slides(folder / facts.SLIDES)
    pictures[facts.FLYER, 1] = draw_flyer(folder / facts.FLYER)

    with _text_layers(folder, (facts.REPORT, facts.MANUAL, facts.SLIDES)) as find_text:

        def find(place: Place) -> Box:
            picture = pictures.get((place.document, place.page))
            return find_text(place) if picture is None else picture.find(place.text, place.after)

        answerable = [_record(question, find) for question in ANSWERABLE]
        unanswerable = [_record(question, find) for question in UNANSWERABLE]
    return SampleCorpus(
        documents=tuple(folder / n for n in (facts.REPORT, facts.MANUAL, facts.LETTER, facts.SLIDES, facts.FLYER)),
        questions=_write(folder / "qa.jsonl", answerable),
        unanswerable=_write(folder / "qa_unanswerable.jsonl", unanswerable),
    )


def _record(question: Question, find: Callable[[Place], Box]) -> dict[str, object]:
    document = document_of(question)
    place = question.found
    return {
        "id": question.id,
        "doc": document,
        "question": question.text,
        "answers": list(question.answers),
        "evidence_pages": [page for name, page in question.evidence if name == document],
        "evidence": [str(Address(name, page)) for name, page in question.evidence],
        "boxes": [] if place is None else [{"address": str(Address(place.document, place.page, _widen(find(place))))}],
    }


def _widen(box: Box) -> Box:
    x0, y0, x1, y1 = box
    return max(0, x0 - _MARGIN), max(0, y0 - _MARGIN), min(1, x1 + _MARGIN), min(1, y1 + _MARGIN)


def _write(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


@contextmanager
def _text_layers(folder: Path, names: tuple[str, ...]) -> Iterator[Callable[[Place], Box]]:
    """A function that looks a place up in the text layers of the PDFs."""
    documents = {name: pypdfium2.PdfDocument(folder / name) for name in names}

    def find(place: Place) -> Box:
        page = documents[place.document][place.page - 1]
        text = page.get_textpage()
        width, height = page.get_size()
        begin = 0
        if place.after:
            begin, length = _first(text, place, place.after, 0)
            begin += length
        start, count = _first(text, place, place.text, begin)
        edges = [text.get_rect(i) for i in range(text.count_rects(start, count))]
        left, bottom, right, top = (
            pick(edge) for pick, edge in zip((min, min, max, max), zip(*edges, strict=True), strict=True)
        )
        text.close()
        page.close()
        return left / width, 1 - top / height, right / width, 1 - bottom / height

    try:
        yield find
    finally:
        for document in documents.values():
            document.close()


def _first(text: pypdfium2.PdfTextPage, place: Place, words: str, begin: int) -> tuple[int, int]:
    searcher = text.search(words, index=begin, match_case=True, match_whole_word=False)
    hit = searcher.get_next()
    searcher.close()
    if hit is None:
        raise LookupError(f"«{words}» is not in the text of {place.document}, page {place.page}")
    return hit
