"""`colsearcher look`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from colsearcher.agent.flags import argument, option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import show, tell
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError


@dataclass(frozen=True)
class Look:
    """Draw a page, or the box of an address, as a picture; with --query the heat map of what matched, and where."""

    address: str = argument("report.pdf#p=12, or report.pdf#p=12&box=x0,y0,x1,y1")
    index: Path = option("the index folder", metavar="DIR")
    output: Path | None = option(
        "the picture to write (default: named after the page)", default=None, short="-o", metavar="PNG"
    )
    query: str | None = option("draw why this question finds the page", default=None)
    word: str | None = option("of the question's words draw what this one matches", default=None)
    side: int = option("pixels of the page's longer side", default=1600, metavar="N", within=COUNT)

    def run(self) -> int:
        from colsearcher.indexes.shards import open_index
        from colsearcher.retrieval.searcher import Searcher

        place = Address.parse(self.address)
        if self.word and not self.query:
            raise UserError("--word is one of the question's words; give the question with --query.")
        with open_index(self.index) as index:
            index.page(place.document, place.page)  # a wrong address should not wait for the model to load
        target = self.output or Path(f"{Path(place.document).stem}-p{place.page}.png")
        if target.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise UserError(f"{target} is no picture's name; end it in .png or .jpg.")
        with Searcher.open(self.index) as searcher:
            picture = searcher.picture(place, question=self.query, word=self.word, side=self.side)
            found = searcher.evidence(self.query, place) if self.query else []
        try:
            picture.save(target)
        except OSError as error:
            raise UserError(f"{target} cannot be written ({error.strerror or error}); name another place with -o.") from None
        for piece in found:
            tell(f"  {piece.word:<16}{piece.similarity:.2f}  {piece.address}")
        show(str(target))
        return 0
