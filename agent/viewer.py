"""What lets a policy see pages: a place to its picture, or to its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from colsearcher.indexes.address import Address

if TYPE_CHECKING:
    from PIL import Image

    from colsearcher.retrieval.searcher import Searcher

PAGE_SIDE = 2000
"""Pixels of the longer side at which pages are drawn; a policy's budget scales them down."""
PART_SIDE = 4000
"""The same for a page of which a part is cut out."""


class Viewer(Protocol):
    """Shows places of the corpus."""

    def picture(self, place: Address) -> Image.Image:
        """The page, or the part of it that the address's box names.

        Raises:
            ColSearcherError: it cannot be drawn.
        """
        ...

    def text(self, place: Address) -> str:
        """The words that stand there, in the order of reading.

        Raises:
            ColSearcherError: there is no such page.
        """
        ...


@dataclass(frozen=True)
class PageViewer:
    """Pages of an index, drawn from the files that it was made of."""

    searcher: Searcher

    def picture(self, place: Address) -> Image.Image:
        return self.searcher.picture(place, side=PART_SIDE if place.box else PAGE_SIDE)

    def text(self, place: Address) -> str:
        page = self.searcher.index.page(place.document, place.page)
        if place.box is None:
            return page.text
        x0, y0, x1, y1 = place.box
        x, y = (page.word_boxes[:, :2] + page.word_boxes[:, 2:]).T / 2
        inside = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
        return " ".join(word for word, here in zip(page.text.split(), inside, strict=True) if here)
