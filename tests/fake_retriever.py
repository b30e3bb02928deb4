"""A retriever over a few passages: shares of words, best first."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from colsearcher.agent.retriever import Passage
from colsearcher.agent.wording import terms
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import IndexProblem

PAGES = {
    "pump.pdf#p=12": "Spare parts. Part K-40 (check valve, brass) is no longer made. It is replaced by valve V-118.",
    "pump.pdf#p=13": "Valve data. Valve V-118: stainless steel, torque for the screws 22 Nm.",
    "report.pdf#p=3": "Revenue by region 2025, thousand euros. Northern region 12,480. Southern region 9,315.",
    "report.pdf#p=6": "The chair of the board is Helena Voss.",
    "minutes.pdf#p=1": "Two accidents were reported in April. The shower in hall B is out of order.",
}


class Shelf:
    def __init__(self, pages: dict[str, str] | None = None) -> None:
        self.passages = [(Address.parse(address), text) for address, text in (pages or PAGES).items()]
        self.asked: list[str] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.asked += queries
        return [self._rank(query)[:k] for query in queries]

    def _rank(self, query: str) -> list[Passage]:
        wanted = set(terms(query))
        scored = [(len(wanted & set(terms(text))) / (len(wanted) or 1), address, text) for address, text in self.passages]
        return [Passage(address, text, score) for score, address, text in sorted(scored, key=lambda hit: -hit[0])]


def page(number: int, size: tuple[int, int] = (300, 200)) -> Image.Image:
    """A white page with something on it that tells it from others."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((10 * number, 20, 100 + 10 * number, 150), fill=(50 * number % 255, 90, 200))
    return image


class Gallery:
    """A viewer of such pages; a part of one is of another shape."""

    def picture(self, place: Address) -> Image.Image:
        return page(place.page, (300, 200) if place.box is None else (120, 240))

    def text(self, place: Address) -> str:
        return f"words of {place}"


class BrokenShelf:
    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        raise IndexProblem("The index is damaged. Run colsearcher verify.")
