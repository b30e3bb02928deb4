"""The Plover 4 measuring buoy as a line drawing: cover picture, overview drawing and dimension drawing."""

from __future__ import annotations

from reportlab.graphics.shapes import Circle, Drawing, Ellipse, Group, Line, Polygon, Rect, String
from reportlab.lib.colors import HexColor

from colsearcher.retrieval.sample.style import NAVY, SERIES, SKY, STONE, WHITE

_YELLOW = HexColor("#f2c230")
_STEEL = HexColor("#b9c4ca")

# Where each numbered part sits on a buoy of 100 x 200 units: (x, y), and the side its label stands on.
ANCHORS = (
    (50, 195, "right"),
    (38, 176, "left"),
    (64, 174, "right"),
    (38, 132, "left"),
    (58, 108, "right"),
    (30, 98, "left"),
    (86, 86, "right"),
    (50, 43, "left"),
    (62, 58, "right"),
)


def buoy() -> Group:
    """The buoy in a field of 100 x 200 units, waterline at y = 82."""
    steel = {"fillColor": _STEEL, "strokeColor": NAVY, "strokeWidth": 0.8}
    parts = [
        Line(50, 40, 50, 6, strokeColor=STONE, strokeWidth=2.2, strokeDashArray=(4, 2)),
        Polygon([42, 66, 58, 66, 55, 48, 45, 48], **steel),
        Rect(45, 38, 10, 10, rx=2, ry=2, fillColor=SERIES[1], strokeColor=NAVY, strokeWidth=0.8),
        Rect(59, 54, 6, 10, fillColor=WHITE, strokeColor=NAVY, strokeWidth=0.8),
        Polygon([8, 96, 92, 96, 80, 68, 20, 68], fillColor=_YELLOW, strokeColor=NAVY, strokeWidth=1),
        Ellipse(50, 96, 42, 4, fillColor=HexColor("#f7d96a"), strokeColor=NAVY, strokeWidth=0.8),
        Rect(26, 96, 8, 5, **steel),
        Polygon([36, 98, 64, 98, 57, 164, 43, 164], fillColor=WHITE, strokeColor=NAVY, strokeWidth=1),
        Rect(41, 102, 18, 13, rx=1, ry=1, **steel),
        Polygon([40, 120, 60, 120, 57.5, 154, 42.5, 154], fillColor=NAVY, strokeColor=NAVY, strokeWidth=0.6),
        Line(41, 131, 59, 131, strokeColor=SKY, strokeWidth=0.5),
        Line(42, 142, 58, 142, strokeColor=SKY, strokeWidth=0.5),
        Line(50, 120, 50, 154, strokeColor=SKY, strokeWidth=0.5),
        Rect(34, 164, 32, 4, **steel),
        Ellipse(38, 176, 6, 4, fillColor=WHITE, strokeColor=NAVY, strokeWidth=0.8),
        Line(38, 168, 38, 172, strokeColor=STONE, strokeWidth=1.4),
        Line(64, 168, 64, 180, strokeColor=STONE, strokeWidth=1.4),
        Line(59, 180, 69, 180, strokeColor=STONE, strokeWidth=1.8),
        Line(50, 168, 50, 188, strokeColor=STONE, strokeWidth=1.8),
        Circle(50, 192, 5, fillColor=_YELLOW, strokeColor=NAVY, strokeWidth=0.8),
    ]
    return Group(*parts)


def overview(names: tuple[str, ...], *, size: tuple[float, float]) -> Drawing:
    """The buoy with a leader line, a number and a name for each part."""
    width, height = size
    scale = height / 205
    left = width / 2 - 50 * scale
    drawing = Drawing(width, height)
    drawing.add(Line(0, 82 * scale, width, 82 * scale, strokeColor=SKY, strokeWidth=1, strokeDashArray=(6, 3)))
    body = buoy()
    body.transform = (scale, 0, 0, scale, left, 0)
    drawing.add(body)
    for number, (name, (x, y, side)) in enumerate(zip(names, ANCHORS, strict=True), start=1):
        at_x, at_y = left + x * scale, y * scale
        end_x = left - 24 if side == "left" else left + 100 * scale + 24
        drawing.add(Line(at_x, at_y, end_x, at_y, strokeColor=NAVY, strokeWidth=0.7))
        drawing.add(Circle(at_x, at_y, 1.8, fillColor=NAVY, strokeColor=NAVY))
        label_x = end_x - 12 if side == "left" else end_x + 12
        drawing.add(Circle(label_x, at_y, 10, fillColor=WHITE, strokeColor=NAVY, strokeWidth=1))
        drawing.add(String(label_x, at_y - 3.4, str(number), fontName="Helvetica-Bold", fontSize=10, textAnchor="middle"))
        text_x, anchor = (label_x - 16, "end") if side == "left" else (label_x + 16, "start")
        drawing.add(String(text_x, at_y - 3.4, name, fontName="Helvetica", fontSize=10, textAnchor=anchor))
    return drawing


def dimensions(height_mm: str, width_mm: str, draught_mm: str, *, size: tuple[float, float]) -> Drawing:
    """The buoy between three dimension lines."""
    width, height = size
    scale = (height - 50) / 205
    left, bottom = width / 2 - 50 * scale - 10, 40
    drawing = Drawing(width, height)
    body = buoy()
    body.transform = (scale, 0, 0, scale, left, bottom)
    drawing.add(Line(10, bottom + 82 * scale, width - 10, bottom + 82 * scale, strokeColor=SKY, strokeDashArray=(6, 3)))
    drawing.add(body)
    right = left + 118 * scale
    _arrow(drawing, right, bottom + 38 * scale, right, bottom + 197 * scale)
    drawing.add(String(right + 7, bottom + 130 * scale, height_mm, fontName="Helvetica-Bold", fontSize=10))
    drawing.add(String(right + 7, bottom + 130 * scale - 12, "overall height", fontName="Helvetica", fontSize=8))
    far = left - 14 * scale
    _arrow(drawing, far, bottom + 38 * scale, far, bottom + 82 * scale)
    drawing.add(String(far - 7, bottom + 58 * scale, draught_mm, fontName="Helvetica-Bold", fontSize=10, textAnchor="end"))
    drawing.add(String(far - 7, bottom + 58 * scale - 12, "draught", fontName="Helvetica", fontSize=8, textAnchor="end"))
    low = bottom - 4
    _arrow(drawing, left + 8 * scale, low, left + 92 * scale, low)
    middle = left + 50 * scale
    drawing.add(String(middle, low - 14, width_mm, fontName="Helvetica-Bold", fontSize=10, textAnchor="middle"))
    drawing.add(String(middle, low - 25, "float diameter", fontName="Helvetica", fontSize=8, textAnchor="middle"))
    return drawing


def _arrow(drawing: Drawing, x0: float, y0: float, x1: float, y1: float) -> None:
    drawing.add(Line(x0, y0, x1, y1, strokeColor=NAVY, strokeWidth=0.8))
    for x, y, sign in ((x0, y0, 1), (x1, y1, -1)):
        tip = [x, y, x - 2.5, y + 6 * sign, x + 2.5, y + 6 * sign]
        if y0 == y1:
            tip = [x, y, x + 6 * sign, y - 2.5, x + 6 * sign, y + 2.5]
        drawing.add(Polygon(tip, fillColor=NAVY, strokeColor=NAVY))
