"""The manual's building blocks: warning boxes, numbered steps and the wiring diagram."""

from __future__ import annotations

from reportlab.graphics.shapes import Circle, Drawing, Group, Line, Rect, String
from reportlab.lib.colors import HexColor
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import (
    Flowable,
    Paragraph,
    Table,
    TableStyle,
)

from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.buoy import dimensions
from colsearcher.retrieval.sample.style import NAVY, PLAIN, STONE, WHITE

ORANGE = HexColor("#e8590c")
_AMBER = HexColor("#fff3d6")
_BLUE = HexColor("#e7f1f8")
_NUMBER = ParagraphStyle("number", fontName="Helvetica-Bold", fontSize=16, leading=18, textColor=ORANGE)
_WIRE_COLOURS = {
    "red": "#c92a2a",
    "black": "#212529",
    "yellow": "#f2c230",
    "violet": "#7048a8",
    "orange": "#f08c00",
    "white": "#ffffff",
    "green": "#2f9e44",
    "grey": "#868e96",
}


def box(kind: str, text: str, width: float) -> Flowable:
    """A warning or a note: a coloured flag with a sign at the left."""
    warning = kind == "WARNING"
    sign = Drawing(40, 36)
    sign.add(Circle(20, 16, 15, fillColor=ORANGE if warning else NAVY, strokeColor=None))
    sign.add(
        String(20, 9.5, "!" if warning else "i", fontName="Helvetica-Bold", fontSize=19, fillColor=WHITE, textAnchor="middle")
    )
    colour = "#e8590c" if warning else "#12344d"
    words = [Paragraph(f'<font color="{colour}"><b>{kind}</b></font>', PLAIN), Paragraph(text, PLAIN)]
    look = [
        ("BACKGROUND", (0, 0), (-1, -1), _AMBER if warning else _BLUE),
        ("LINEBEFORE", (0, 0), (0, 0), 4, ORANGE if warning else NAVY),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), 8),
    ]
    return Table([[sign, words]], colWidths=[58, width - 58], style=TableStyle(look), spaceBefore=6, spaceAfter=10)


def numbered(steps: tuple[str, ...], width: float) -> Table:
    """Numbered steps, the numbers in large orange."""
    rows = [[Paragraph(str(i), _NUMBER), Paragraph(step, PLAIN)] for i, step in enumerate(steps, start=1)]
    look = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -2), 0.4, STONE),
        ("TOPPADDING", (0, 0), (-1, -1), 6),
    ]
    return Table(rows, colWidths=[30, width - 30], style=TableStyle(look), spaceAfter=10)


def wiring(size: tuple[float, float]) -> Drawing:
    width, height = size
    drawing = Drawing(width, height)
    drawing.add(String(0, height - 12, "Connector X2", fontName="Helvetica-Bold", fontSize=12, fillColor=NAVY))
    drawing.add(Rect(0, 10, 70, height - 40, rx=10, ry=10, fillColor=HexColor("#dfe5e8"), strokeColor=NAVY, strokeWidth=1.4))
    step = (height - 70) / (len(facts.WIRES) - 1)
    for i, (pin, signal, colour, section) in enumerate(facts.WIRES):
        y = height - 45 - i * step
        drawing.add(Line(35, y, 190, y, strokeColor=STONE, strokeWidth=6.5))
        drawing.add(Line(35, y, 190, y, strokeColor=HexColor(_WIRE_COLOURS[colour]), strokeWidth=5))
        drawing.add(Circle(35, y, 12, fillColor=WHITE, strokeColor=NAVY, strokeWidth=1.2))
        drawing.add(String(35, y - 4, str(pin), fontName="Helvetica-Bold", fontSize=11, textAnchor="middle"))
        drawing.add(String(130, y + 6, colour, fontName="Helvetica", fontSize=9, textAnchor="middle"))
        drawing.add(Rect(190, y - 12, 150, 24, fillColor=WHITE, strokeColor=NAVY, strokeWidth=0.8))
        drawing.add(String(198, y - 3.5, signal, fontName="Helvetica", fontSize=10))
        drawing.add(String(332, y - 3.5, section, fontName="Helvetica", fontSize=10, textAnchor="end"))
    drawing.add(Line(375, 5, 375, height - 5, strokeColor=STONE, strokeWidth=0.6))
    side = dimensions(facts.HEIGHT_MM, facts.WIDTH_MM, facts.DRAUGHT_MM, size=(width - 395, height))
    drawing.add(Group(*side.contents, transform=(1, 0, 0, 1, 395, 0)))
    return drawing
