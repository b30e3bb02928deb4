"""A page as the whole project sees it: where it comes from, its size, its words. Data only; `PageImage` says how to draw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from colsearcher.indexes.address import Address, Box

Renderer = Literal["pdfium", "poppler", "image"]
WordSource = Literal["text", "ocr", "none"]
OcrReason = Literal["no text", "stamp"]


@dataclass(frozen=True)
class Word:
    """One word and its box in fractions of the page as it is shown (rotation applied, origin top left)."""

    text: str
    box: Box


@dataclass(frozen=True)
class PageImage:
    """A recipe for the page's picture. `colsearcher.retrieval.render.draw` turns it into pixels when they are needed."""

    path: Path
    number: int
    renderer: Renderer


@dataclass(frozen=True)
class Page:
    """One page of one document.

    Attributes:
        document: stable id, the file's name relative to the folder that was added (posix separators).
        number: 1-based physical page.
        image: how to draw the page, lazily; None for a passage, which never was a picture.
        size: width and height in points (1/72 inch), rotation applied.
        words: the words in reading order, empty for a page without any.
        word_source: where the words come from: the PDF's text layer, OCR, or none at all.
        blank: nothing is drawn on the page (all pixels alike) and it has no words.
        ocr_reason: why the text layer does not say what is on the page: it has next to no words, or only those of a stamp on
            a scan. None where it does, and for a blank page.
        metadata: what is known of the document (title, author, …); JSON values only.
        picture: the page drawn in RGB for a model that looks at it; None where nobody asked for it.
    """

    document: str
    number: int
    image: PageImage | None
    size: tuple[float, float]
    words: tuple[Word, ...] = ()
    word_source: WordSource = "none"
    blank: bool = False
    ocr_reason: OcrReason | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    picture: Image.Image | None = field(default=None, compare=False)

    @property
    def address(self) -> Address:
        return Address(self.document, self.number)

    @property
    def text(self) -> str:
        """The words joined by spaces."""
        return " ".join(word.text for word in self.words)
