"""Draws the field manual: a labelled drawing, numbered steps, tables, warning boxes and one landscape diagram."""

from __future__ import annotations

from pathlib import Path

from reportlab.lib.pagesizes import A4, landscape
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
)

from colsearcher.retrieval.sample import chapters, facts
from colsearcher.retrieval.sample.chapters import HEIGHT, MARGIN, WIDTH
from colsearcher.retrieval.sample.panels import ORANGE
from colsearcher.retrieval.sample.style import NAVY, STONE, WHITE


def draw_manual(path: Path) -> None:
    """Write the manual, nine pages, the sixth in landscape; the same bytes each time."""
    document = BaseDocTemplate(
        str(path), pagesize=A4, invariant=1, title=f"{facts.PRODUCT} field manual", author=facts.COMPANY, subject="Manual"
    )
    wide, inner = landscape(A4), WIDTH - 2 * MARGIN
    document.addPageTemplates(
        [
            PageTemplate("cover", [Frame(MARGIN, 60, inner, HEIGHT - 330, 0, 0, 0, 0)], onPage=_cover),
            PageTemplate("body", [Frame(MARGIN, 70, inner, HEIGHT - 150, 0, 0, 0, 0)], onPage=_running),
            PageTemplate("wide", [Frame(MARGIN, 56, wide[0] - 112, wide[1] - 120, 0, 0, 0, 0)], onPage=_running, pagesize=wide),
        ]
    )
    story = chapters.contents_page()
    for template, content in (
        ("body", chapters.safety_page()),
        ("body", chapters.overview_page()),
        ("body", chapters.specification_page()),
        ("body", chapters.mooring_page()),
        ("wide", chapters.wiring_page()),
        ("body", chapters.start_page()),
        ("body", chapters.faults_page()),
        ("body", chapters.upkeep_page()),
    ):
        story += [NextPageTemplate(template), PageBreak(), *content]
    document.build(story)


def _cover(canvas: Canvas, _document: BaseDocTemplate) -> None:
    canvas.setFillColor(ORANGE)
    canvas.rect(0, HEIGHT - 230, WIDTH, 230, stroke=0, fill=1)
    canvas.setFillColor(WHITE)
    canvas.setFont("Helvetica", 15)
    canvas.drawString(MARGIN, HEIGHT - 70, facts.COMPANY)
    canvas.setFont("Helvetica-Bold", 54)
    canvas.drawString(MARGIN, HEIGHT - 140, facts.PRODUCT)
    canvas.setFont("Helvetica", 22)
    canvas.drawString(MARGIN, HEIGHT - 176, "Measuring buoy: field manual")
    canvas.setFont("Helvetica", 11)
    canvas.drawString(MARGIN, HEIGHT - 206, "Launch, wiring, faults and upkeep. Keep this manual on board.")
    canvas.setFillColor(NAVY)
    canvas.setFont("Helvetica", 10)
    canvas.drawString(MARGIN, 48, f"Document {facts.MANUAL_NUMBER}, revision F")
    canvas.drawRightString(WIDTH - MARGIN, 48, "Valid from serial number P4-20500")


def _running(canvas: Canvas, document: BaseDocTemplate) -> None:
    width, height = landscape(A4) if document.pageTemplate.id == "wide" else A4
    canvas.saveState()
    canvas.setFillColor(ORANGE)
    canvas.rect(0, height - 40, 8, 40, stroke=0, fill=1)
    canvas.setFillColor(STONE)
    canvas.setFont("Helvetica", 9)
    canvas.drawString(MARGIN, height - 38, f"{facts.PRODUCT} field manual")
    canvas.drawString(MARGIN, 34, f"{facts.COMPANY}, revision F")
    canvas.setFillColor(NAVY)
    canvas.setFont("Helvetica-Bold", 10)
    canvas.drawRightString(width - MARGIN, 34, f"Page {document.page} of 9")
    canvas.restoreState()
