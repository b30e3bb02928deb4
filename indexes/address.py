"""One spelling for a place in the corpus: `report.pdf#p=12` or `report.pdf#p=12&box=0.1,0.2,0.5,0.4`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from colsearcher.indexes.errors import UserError

_ADDRESS = re.compile(r"(?P<document>.+)#p=(?P<page>[0-9]{1,9})(?:&box=(?P<box>[^&#]*))?", re.DOTALL)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, order=True)
class Address:
    """A page, or a box on it.

    `document` is the id that the index knows, `page` is 1-based, `box` is (x0, y0, x1, y1) in fractions of the page with
    the origin at the top left. It round-trips: `Address.parse(str(address)) == address` for boxes of up to four decimals.

    >>> str(Address("report.pdf", 12, (0.1, 0.25, 0.5, 1.0)))
    'report.pdf#p=12&box=0.1,0.25,0.5,1'
    >>> Address.parse("a#b.pdf#p=3")
    Address(document='a#b.pdf', page=3, box=None)
    """

    document: str
    page: int
    box: Box | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            UserError: the text is not an address, the page is 0, or the box is not four ordered fractions.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise UserError(f"«{text}» is not a page address; write it as report.pdf#p=12 (or with &box=x0,y0,x1,y1).")
        page = int(match["page"])
        if page < 1:
            raise UserError(f"«{text}» names page 0; pages count from 1.")
        return cls(match["document"], page, None if match["box"] is None else _parse_box(match["box"], text))

    def __str__(self) -> str:
        if self.box is None:
            return f"{self.document}#p={self.page}"
        x0, y0, x1, y1 = (round(v * 10_000) for v in self.box)
        # A box thinner than the four decimals stays a box.
        x0, y0 = min(x0, 9_999), min(y0, 9_999)
        corners = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        return f"{self.document}#p={self.page}&box={','.join(f'{v / 10_000:g}' for v in corners)}"


def _parse_box(box: str, text: str) -> Box:
    fix = "give x0,y0,x1,y1 as fractions of the page with x0 < x1 and y0 < y1, for example box=0.1,0.2,0.5,0.4."
    try:
        values = tuple(float(part) for part in box.split(","))
    except ValueError:
        raise UserError(f"The box of «{text}» is not four numbers; {fix}") from None
    if len(values) != 4 or not all(math.isfinite(v) and 0 <= v <= 1 for v in values):
        raise UserError(f"The box of «{text}» is not four fractions between 0 and 1; {fix}")
    x0, y0, x1, y1 = values
    if x0 >= x1 or y0 >= y1:
        raise UserError(f"The box of «{text}» is empty; {fix}")
    return x0, y0, x1, y1
