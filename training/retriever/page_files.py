"""The pages of the user's files as training sees them: named by address, drawn when a batch needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.corpus import Source, find_sources
from colsearcher.retrieval.page import PageImage
from colsearcher.retrieval.render import PICTURE_DPI, draw, open_file
from colsearcher.training.questions import load_questions
from colsearcher.training.retriever.pairs import PairSet, pairs_of, with_boxes


class PageFiles:
    """The pages of PDFs and images."""

    def __init__(self, paths: Sequence[Path], *, max_pixels: int) -> None:
        """
        Args:
            paths: files and folders; a document's id is its name relative to the folder given.
            max_pixels: the most pixels of a picture that the model makes use of.

        Raises:
            UserError: a path does not exist or holds nothing to read.
            FileProblem: a file cannot be opened.
        """
        self._max_pixels = max_pixels
        self._sources = {source.document: source for source in find_sources(paths)}
        if not self._sources:
            raise UserError(f"There is no PDF and no image in {', '.join(map(str, paths))}; name a folder that has some.")
        self._pages = {document: _count(source) for document, source in self._sources.items()}

    def addresses(self) -> list[Address]:
        """All pages, document by document."""
        return [Address(document, number + 1) for document, pages in self._pages.items() for number in range(pages)]

    def draw(self, key: str) -> Image.Image:
        """The picture of the page at an address, as `VisualEmbedder` draws it.

        Raises:
            FileProblem: the page cannot be drawn.
        """
        place = Address.parse(key)
        source = self._sources[place.document]
        image = PageImage(source.path, place.page, "image" if source.kind == "image" else "pdfium")
        return draw(image, dpi=PICTURE_DPI, max_pixels=self._max_pixels)


def question_pairs(qa: Path, paths: Sequence[Path], *, max_pixels: int, limit: int | None = None) -> PairSet:
    """Pairs from a file of questions and the files that they are about; unanswerable questions are left out.

    Raises:
        UserError: no question has gold pages, or one of them is not among the files.
        FileProblem: a file cannot be opened.
    """
    asked = [question for question in load_questions(qa, limit) if question.evidence and not question.context]
    if not asked:
        raise UserError(f"No question of {qa} has evidence pages; a retriever learns from questions that have.")
    files = PageFiles(paths, max_pixels=max_pixels)
    pages = tuple(str(address) for address in files.addresses())
    known = set(pages)
    places = [(q.text, [str(Address(place.document, place.page)) for place in sorted(q.evidence)]) for q in asked]
    missing = sorted({key for _, keys in places for key in keys if key not in known})
    if missing:
        raise UserError(
            f"{len(missing)} gold pages of {qa} are not in {', '.join(map(str, paths))} (first: {missing[0]}); "
            "name the folder that the questions' document ids are relative to."
        )
    boxes = [(q.text, box) for q in asked for box in q.boxes]
    return PairSet(with_boxes(pairs_of(places), boxes), pages, files.draw)


def _count(source: Source) -> int:
    with open_file(source.path, "image" if source.kind == "image" else "pdfium") as file:
        return file.pages
