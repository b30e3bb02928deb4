"""A page as the whole project sees it: where it comes from, its size, its words. Data only; `PageImage` says how to draw it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from colsearcher.indexes.address import Address, Box

if TYPE_CHECKING:
    from PIL import Image

Renderer = Literal["pdfium", "poppler", "image"]
WordSource = Literal["text", "ocr", "none"]
OcrReason = Literal["no text", "stamp"]


@dataclass(frozen=True)
class Word:
    """One word and its box in fractions of the page as it is shown (rotation applied, origin top left)."""

    text: str
    box: Box


class Words(Sequence[Word]):
    """Many words, kept as a list of texts and one array of corners: a `Word` is made when somebody asks for it.

    A page has hundreds, and what reads, sends, embeds and stores it needs none of them as an object.

    >>> Words(["one", "two"], array("d", [0, 0, 0.5, 1, 0.5, 0, 1, 1]))[1]
    Word(text='two', box=(0.5, 0.0, 1.0, 1.0))

    Attributes:
        texts: the words' texts; none holds white space or is empty.
        corners: x0, y0, x1, y1 of each word after the other.
    """

    __slots__ = ("corners", "texts")

    def __init__(self, texts: Sequence[str], corners: array[float]) -> None:
        self.texts = texts
        self.corners = corners

    @classmethod
    def of(cls, words: Sequence[Word]) -> Words:
        """Words in this form, themselves where they have it already."""
        if isinstance(words, Words):
            return words
        return cls([word.text for word in words], array("d", [corner for word in words for corner in word.box]))

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, at: int) -> Word: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Word]: ...

    def __getitem__(self, at: int | slice) -> Word | Sequence[Word]:
        if isinstance(at, slice):
            return tuple(self)[at]
        first = 4 * range(len(self))[at]
        x0, y0, x1, y1 = self.corners[first : first + 4]
        return Word(self.texts[at], (x0, y0, x1, y1))

    def __iter__(self) -> Iterator[Word]:
        corners = iter(self.corners)
        return map(Word, self.texts, zip(corners, corners, corners, corners, strict=True))

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(tuple(self))


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
    words: Sequence[Word] = ()
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
        return " ".join(Words.of(self.words).texts)
