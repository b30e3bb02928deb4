"""Bar, line and pie charts with their values written on them."""

from __future__ import annotations

from collections.abc import Sequence

from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.charts.legends import Legend
from reportlab.graphics.charts.linecharts import HorizontalLineChart
from reportlab.graphics.charts.piecharts import Pie
from reportlab.graphics.shapes import Drawing, String
from reportlab.graphics.widgets.markers import makeMarker
from reportlab.lib.colors import HexColor

from colsearcher.retrieval.sample.style import NAVY, SERIES, STONE, WHITE

_GRID = HexColor("#dde4e8")


def bar_chart(
    series: Sequence[Sequence[float]],
    categories: Sequence[str],
    names: Sequence[str],
    *,
    size: tuple[float, float],
    top: float,
    step: float,
    label: str = "%.1f",
    text: float = 8.5,
) -> Drawing:
    """Grouped bars, one colour per series; `top` and `step` set the value axis."""
    width, height = size
    legend_height = 22 if len(names) > 1 else 0
    chart = VerticalBarChart()
    chart.x, chart.y, chart.width, chart.height = 34, 26, width - 44, height - 44 - legend_height
    chart.data = [tuple(values) for values in series]
    chart.categoryAxis.categoryNames = list(categories)
    chart.barWidth, chart.groupSpacing, chart.barSpacing = 10, 8, 1
    for i in range(len(series)):
        chart.bars[i].fillColor = SERIES[i]
        chart.bars[i].strokeColor = None
    chart.categoryAxis.labels.textAnchor = "middle"
    chart.barLabelFormat = label
    chart.barLabels.nudge = text * 0.85
    chart.barLabels.fontName, chart.barLabels.fontSize = "Helvetica-Bold", text
    _style_axes(chart, top, step, text)
    drawing = Drawing(width, height)
    drawing.add(chart)
    if legend_height:
        drawing.add(_legend([(SERIES[i], name) for i, name in enumerate(names)], 34, height - 6, text, columns=True))
    return drawing


def line_chart(
    values: Sequence[float], categories: Sequence[str], *, size: tuple[float, float], top: float, step: float
) -> Drawing:
    """One line with a marker and its value at each point."""
    width, height = size
    chart = HorizontalLineChart()
    chart.x, chart.y, chart.width, chart.height = 34, 26, width - 44, height - 40
    chart.data = [tuple(values)]
    chart.categoryAxis.categoryNames = list(categories)
    chart.lines[0].strokeColor, chart.lines[0].strokeWidth = SERIES[1], 2.4
    chart.lines[0].symbol = makeMarker("FilledCircle", size=6, fillColor=SERIES[1], strokeColor=WHITE)
    chart.lineLabelFormat = "%.1f"
    chart.lineLabels.fontName, chart.lineLabels.fontSize = "Helvetica-Bold", 9
    chart.lineLabelNudge = 11
    _style_axes(chart, top, step, 9)
    drawing = Drawing(width, height)
    drawing.add(chart)
    return drawing


def pie_chart(shares: Sequence[tuple[str, int]], *, size: tuple[float, float], text: float = 9) -> Drawing:
    """A pie with the per cents on its slices and the names in a legend at its right."""
    width, height = size
    pie = Pie()
    pie.width = pie.height = height - 16
    pie.x, pie.y = 8, 8
    pie.data = [share for _, share in shares]
    pie.labels = [f"{share} %" for _, share in shares]
    pie.startAngle, pie.direction = 90, "clockwise"
    pie.slices.strokeColor, pie.slices.strokeWidth = WHITE, 1.5
    pie.slices.labelRadius = 0.7
    pie.slices.fontName, pie.slices.fontSize = "Helvetica-Bold", text
    pie.simpleLabels = 1
    for i in range(len(shares)):
        pie.slices[i].fillColor = SERIES[i]
        pie.slices[i].fontColor = NAVY if SERIES[i] is SERIES[4] else WHITE
    drawing = Drawing(width, height)
    drawing.add(pie)
    entries = [(SERIES[i], name) for i, (name, _) in enumerate(shares)]
    drawing.add(_legend(entries, height + 14, height - (height - len(shares) * text * 1.9) / 2, text, columns=False))
    return drawing


def titled(drawing: Drawing, title: str) -> Drawing:
    """The drawing with a bold title above it."""
    drawing.add(String(0, drawing.height + 6, title, fontName="Helvetica-Bold", fontSize=10, fillColor=NAVY))
    drawing.height += 22
    return drawing


def _style_axes(chart: VerticalBarChart | HorizontalLineChart, top: float, step: float, text: float) -> None:
    chart.valueAxis.valueMin, chart.valueAxis.valueMax, chart.valueAxis.valueStep = 0, top, step
    chart.valueAxis.visibleGrid, chart.valueAxis.gridStrokeColor = 1, _GRID
    chart.valueAxis.gridStrokeWidth = 0.5
    for axis in (chart.valueAxis, chart.categoryAxis):
        axis.strokeColor = STONE
        axis.labels.fontName, axis.labels.fontSize = "Helvetica", text
        axis.labels.fillColor = NAVY
    chart.valueAxis.labelTextFormat = "%d"


def _legend(entries: list[tuple[HexColor, str]], x: float, y: float, text: float, *, columns: bool) -> Legend:
    legend = Legend()
    legend.x, legend.y = x, y
    legend.boxAnchor = "nw"
    legend.colorNamePairs = entries
    legend.columnMaximum = 1 if columns else len(entries)
    legend.alignment = "right"
    legend.dx = legend.dy = text * 0.9
    legend.deltax, legend.deltay = 60, text * 1.9
    legend.dxTextSpace = 6
    legend.fontName, legend.fontSize = "Helvetica", text
    legend.strokeColor = None
    legend.fillColor = NAVY
    return legend
