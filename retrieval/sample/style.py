"""The look of the sample documents: colours, paragraph styles and tables."""

from __future__ import annotations

from collections.abc import Sequence

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_JUSTIFY
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Paragraph, Table, TableStyle

NAVY = HexColor("#12344d")
TEAL = HexColor("#1f7a8c")
SAND = HexColor("#ead9b5")
CORAL = HexColor("#d9643f")
MIST = HexColor("#eef3f5")
STONE = HexColor("#8a979f")
SKY = HexColor("#a9cfd8")
WHITE = HexColor("#ffffff")
SERIES = (TEAL, CORAL, NAVY, HexColor("#c79a3b"), SKY)

BODY = ParagraphStyle("body", fontName="Times-Roman", fontSize=12, leading=17, spaceAfter=9, alignment=TA_JUSTIFY)
HEADING = ParagraphStyle("heading", fontName="Helvetica-Bold", fontSize=23, leading=28, textColor=NAVY, spaceAfter=12)
SUBHEADING = ParagraphStyle(
    "subheading", fontName="Helvetica-Bold", fontSize=13, leading=17, textColor=TEAL, spaceBefore=12, spaceAfter=7
)
CAPTION = ParagraphStyle(
    "caption", fontName="Helvetica-Oblique", fontSize=8.5, leading=11, textColor=STONE, spaceBefore=5, spaceAfter=14
)
FOOTNOTE = ParagraphStyle("footnote", fontName="Times-Roman", fontSize=9.5, leading=13, spaceAfter=2)
CELL = ParagraphStyle("cell", fontName="Helvetica", fontSize=10.5, leading=13)
PLAIN = ParagraphStyle("plain", fontName="Helvetica", fontSize=11, leading=15.5, spaceAfter=7)


def table(
    rows: Sequence[Sequence[str]],
    widths: Sequence[float],
    *,
    numbers_from: int = 99,
    sums: Sequence[int] = (),
    size: float = 10.5,
    pad: float = 8,
    accent: HexColor = NAVY,
) -> Table:
    """A table with a filled header row.

    Columns from `numbers_from` on are set to the right, rows in `sums` are bold with a rule above. Text of a column
    before `numbers_from` wraps when the cell is a long string in the last column.
    """
    last = len(rows[0]) - 1
    wrap = numbers_from > last
    cells = [[Paragraph(c, CELL) if wrap and i == last and r else c for i, c in enumerate(row)] for r, row in enumerate(rows)]
    look = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", size),
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", size),
        ("BACKGROUND", (0, 0), (-1, 0), accent),
        ("TEXTCOLOR", (0, 0), (-1, 0), WHITE),
        ("ROWBACKGROUNDS", (0, 1), (-1, -1), (WHITE, MIST)),
        ("LINEBELOW", (0, -1), (-1, -1), 0.8, accent),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), pad),
        ("BOTTOMPADDING", (0, 0), (-1, -1), pad),
    ]
    if numbers_from <= last:
        look.append(("ALIGN", (numbers_from, 0), (-1, -1), "RIGHT"))
    for row in sums:
        look.append(("FONT", (0, row), (-1, row), "Helvetica-Bold", size))
        look.append(("LINEABOVE", (0, row), (-1, row), 0.6, accent))
    return Table(cells, colWidths=list(widths), style=TableStyle(look), hAlign="LEFT")
