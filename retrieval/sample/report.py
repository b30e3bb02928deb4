"""Draws the annual report: cover, tiles, two-column letter, tables, charts, footnotes and a blank last page."""

from __future__ import annotations

from pathlib import Path

from reportlab.graphics import renderPDF
from reportlab.graphics.shapes import Drawing
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Spacer,
)

from colsearcher.retrieval.sample import facts, sections
from colsearcher.retrieval.sample.buoy import buoy
from colsearcher.retrieval.sample.sections import HEIGHT, MARGIN, WIDTH
from colsearcher.retrieval.sample.style import (
    NAVY,
    SAND,
    SKY,
    STONE,
    TEAL,
    WHITE,
)


def draw_report(path: Path) -> None:
    """Write the report, ten A4 pages; the same bytes each time."""
    document = BaseDocTemplate(
        str(path), pagesize=A4, invariant=1, title="Annual Report 2025", author=facts.COMPANY, subject="Annual report"
    )
    inner = WIDTH - 2 * MARGIN
    body = Frame(MARGIN, 62, inner, HEIGHT - 140, 0, 0, 0, 0)
    column = (inner - 22) / 2
    columns = [
        Frame(MARGIN, HEIGHT - 128, inner, 50, 0, 0, 0, 0),
        Frame(MARGIN, 62, column, HEIGHT - 200, 0, 0, 0, 0),
        Frame(MARGIN + column + 22, 62, column, HEIGHT - 200, 0, 0, 0, 0),
    ]
    document.addPageTemplates(
        [
            PageTemplate("cover", [Frame(0, 0, 10, 10, 0, 0, 0, 0)], onPage=_cover),
            PageTemplate("body", [body], onPage=_header_and_footer),
            PageTemplate("columns", columns, onPage=_header_and_footer),
            PageTemplate("blank", [body]),
        ]
    )
    story: list[Flowable] = [Spacer(1, 1)]
    for template, content in (
        ("body", sections.glance_page()),
        ("columns", sections.letter_page()),
        ("body", sections.regions_page()),
        ("body", sections.income_page()),
        ("body", sections.cash_page()),
        ("body", sections.people_page()),
        ("body", sections.service_page()),
        ("body", sections.board_page()),
        ("blank", [Spacer(1, 1)]),
    ):
        story += [NextPageTemplate(template), PageBreak(), *content]
    document.build(story)


def _cover(canvas: Canvas, _document: BaseDocTemplate) -> None:
    canvas.setFillColor(NAVY)
    canvas.rect(0, 0, WIDTH, HEIGHT, stroke=0, fill=1)
    canvas.setFillColor(SAND)
    canvas.circle(WIDTH - 130, 560, 72, stroke=0, fill=1)
    for base, colour in ((330, SKY), (270, TEAL), (200, NAVY)):
        wave = canvas.beginPath()
        wave.moveTo(0, base)
        for i in range(4):
            x = i * WIDTH / 4
            wave.curveTo(x + 50, base + 46, x + 100, base - 46, x + WIDTH / 4, base)
        wave.lineTo(WIDTH, 0)
        wave.lineTo(0, 0)
        canvas.setFillColor(colour)
        canvas.drawPath(wave, stroke=0, fill=1)
    canvas.saveState()
    canvas.translate(70, 130)
    canvas.scale(1.75, 1.75)
    _draw_group(canvas)
    canvas.restoreState()
    canvas.setFillColor(WHITE)
    canvas.setFont("Helvetica-Bold", 50)
    canvas.drawString(MARGIN, HEIGHT - 150, "Annual Report")
    canvas.setFillColor(SAND)
    canvas.drawString(MARGIN, HEIGHT - 208, "2025")
    canvas.setFillColor(WHITE)
    canvas.setFont("Helvetica", 17)
    canvas.drawString(MARGIN, HEIGHT - 92, facts.COMPANY)
    canvas.setFont("Times-Italic", 20)
    canvas.drawRightString(WIDTH - MARGIN, 118, "Listening to the sea, hour by hour")
    canvas.setFont("Helvetica", 10)
    canvas.drawRightString(WIDTH - MARGIN, 92, "All amounts in million crowns unless stated otherwise")


def _draw_group(canvas: Canvas) -> None:
    drawing = Drawing(100, 200)
    drawing.add(buoy())
    renderPDF.draw(drawing, canvas, 0, 0)


def _header_and_footer(canvas: Canvas, document: BaseDocTemplate) -> None:
    canvas.saveState()
    canvas.setFont("Helvetica", 8.5)
    canvas.setFillColor(STONE)
    canvas.drawString(MARGIN, HEIGHT - 46, facts.COMPANY)
    canvas.drawRightString(WIDTH - MARGIN, HEIGHT - 46, "Annual Report 2025")
    canvas.setStrokeColor(SAND)
    canvas.setLineWidth(1.2)
    canvas.line(MARGIN, HEIGHT - 54, WIDTH - MARGIN, HEIGHT - 54)
    canvas.setFont("Helvetica-Bold", 9)
    canvas.setFillColor(NAVY)
    canvas.drawCentredString(WIDTH / 2, 34, str(document.page))
    canvas.restoreState()
