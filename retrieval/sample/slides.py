"""Draws the strategy deck: eight 16:9 slides with charts and bullets, the sixth a picture without any text layer."""

from __future__ import annotations

from pathlib import Path

from PIL import ImageFilter
from reportlab.graphics import renderPDF
from reportlab.graphics.shapes import Drawing
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph

from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.buoy import buoy
from colsearcher.retrieval.sample.charts import bar_chart, pie_chart
from colsearcher.retrieval.sample.sheet import Sheet, binary_streams
from colsearcher.retrieval.sample.style import CORAL, MIST, NAVY, SAND, SKY, STONE, TEAL, WHITE, table

_WIDTH, _HEIGHT = 960.0, 540.0
_LEFT = 56
_BULLET = ParagraphStyle("bullet", fontName="Helvetica", fontSize=19, leading=26, textColor=NAVY)
_SMALL = ParagraphStyle("small", fontName="Helvetica", fontSize=15, leading=20, textColor=NAVY)


def draw_slides(path: Path) -> Sheet:
    """Write the deck; the same bytes each time. The sheet is the picture on slide 6 and knows where its words stand."""
    canvas = Canvas(str(path), pagesize=(_WIDTH, _HEIGHT), invariant=1)
    canvas.setTitle("Plan 2028")
    canvas.setAuthor(facts.COMPANY)
    for slide in (_title, _position, _targets, _priorities, _roadmap):
        slide(canvas)
        canvas.showPage()
    picture = _map()
    with binary_streams():
        canvas.drawImage(ImageReader(picture.jpeg(85)), 0, 0, _WIDTH, _HEIGHT)
    canvas.showPage()
    for slide in (_market, _investments):
        slide(canvas)
        canvas.showPage()
    canvas.save()
    return picture


def _title(canvas: Canvas) -> None:
    canvas.setFillColor(NAVY)
    canvas.rect(0, 0, _WIDTH, _HEIGHT, stroke=0, fill=1)
    canvas.setFillColor(TEAL)
    canvas.rect(0, 0, _WIDTH, 130, stroke=0, fill=1)
    drawing = Drawing(320, 460)
    body = buoy()
    body.transform = (2.2, 0, 0, 2.2, 0, 0)
    drawing.add(body)
    renderPDF.draw(drawing, canvas, 680, 30)
    canvas.setFillColor(SAND)
    canvas.rect(_LEFT, 400, 90, 8, stroke=0, fill=1)
    canvas.setFillColor(WHITE)
    canvas.setFont("Helvetica-Bold", 72)
    canvas.drawString(_LEFT, 310, "Plan 2028")
    canvas.setFont("Helvetica", 27)
    canvas.drawString(_LEFT, 262, "More eyes on the sea")
    canvas.setFont("Helvetica", 17)
    canvas.drawString(_LEFT, 62, f"{facts.COMPANY}, strategy for the board, March 2026")


def _frame(canvas: Canvas, number: int, title: str) -> None:
    canvas.setFillColor(NAVY)
    canvas.setFont("Helvetica-Bold", 34)
    canvas.drawString(_LEFT, _HEIGHT - 76, title)
    canvas.setFillColor(CORAL)
    canvas.rect(_LEFT, _HEIGHT - 96, 70, 5, stroke=0, fill=1)
    canvas.setFillColor(STONE)
    canvas.setFont("Helvetica", 12)
    canvas.drawString(_LEFT, 26, f"{facts.COMPANY}, Plan 2028")
    canvas.drawRightString(_WIDTH - _LEFT, 26, str(number))


def _place(canvas: Canvas, flowable: Flowable, x: float, top: float, width: float) -> float:
    """Draw a flowable with its top left corner at (x, top); the y below it."""
    _, height = flowable.wrapOn(canvas, width, top)
    flowable.drawOn(canvas, x, top - height)
    return top - height


def _bullets(canvas: Canvas, x: float, top: float, width: float, lines: tuple[str, ...]) -> None:
    for line in lines:
        canvas.setFillColor(CORAL)
        canvas.circle(x + 6, top - 15, 5, stroke=0, fill=1)
        top = _place(canvas, Paragraph(line, _BULLET), x + 26, top, width - 26) - 17


def _position(canvas: Canvas) -> None:
    _frame(canvas, 2, "Where we stand")
    lines = (
        "Customers trust our data and complain about our repair times.",
        "Service brings one crown in four, and it is growing faster than sales of new buoys.",
        "Two competitors sell cheaper buoys; none has its own depots on this coast.",
        "Young engineers come for the sea and stay for the laboratory.",
    )
    _bullets(canvas, _LEFT, 405, 410, lines)
    chart = bar_chart(
        (tuple(share for _, share in facts.SATISFACTION),),
        tuple(name.replace(" ", "\n", 1) for name, _ in facts.SATISFACTION),
        ("Satisfied",),
        size=(430, 300),
        top=100,
        step=20,
        label="%d %%",
        text=12,
    )
    canvas.setFillColor(NAVY)
    canvas.setFont("Helvetica-Bold", 15)
    canvas.drawString(500, 405, "Satisfied customers, survey of January 2026")
    renderPDF.draw(chart, canvas, 480, 85)


def _targets(canvas: Canvas) -> None:
    _frame(canvas, 3, "Revenue grows by a third until 2028")
    chart = bar_chart(
        (tuple(facts.TARGETS.values()),),
        [f"{year}" if year == 2025 else f"{year} plan" for year in facts.TARGETS],
        ("Revenue",),
        size=(560, 340),
        top=200,
        step=50,
        label="%g",
        text=15,
    )
    renderPDF.draw(chart, canvas, 36, 62)
    canvas.setFillColor(MIST)
    canvas.roundRect(630, 100, 274, 280, 12, stroke=0, fill=1)
    top = 355.0
    for text in (
        "<b>Million crowns.</b> 2025 is the audited figure, later years are the plan.",
        "Half of the growth comes from service contracts, a third from new regions.",
        "No acquisition is included. Prices rise with the cost of steel.",
    ):
        top = _place(canvas, Paragraph(text, _SMALL), 652, top, 232) - 16


def _priorities(canvas: Canvas) -> None:
    _frame(canvas, 4, "Three priorities")
    closing = facts.CLOSING_DEPOT.name
    cards = (
        (
            "Repair faster",
            "A faulty buoy is visited within six days, wherever it is moored. Each boat carries a set of spares.",
        ),
        (
            "Larger depots",
            f"{closing} closes at the end of 2027. Its technicians move to Saltmarsh Bay with their boat.",
        ),
        ("Lighter buoys", "The next generation can be launched by a rubber boat, without a crane."),
    )
    for i, (title, text) in enumerate(cards):
        x = _LEFT + i * 290
        canvas.setFillColor(MIST)
        canvas.roundRect(x, 110, 268, 290, 12, stroke=0, fill=1)
        canvas.setFillColor((TEAL, CORAL, NAVY)[i])
        canvas.circle(x + 46, 352, 26, stroke=0, fill=1)
        canvas.setFillColor(WHITE)
        canvas.setFont("Helvetica-Bold", 26)
        canvas.drawCentredString(x + 46, 343, str(i + 1))
        canvas.setFillColor(NAVY)
        canvas.setFont("Helvetica-Bold", 20)
        canvas.drawString(x + 20, 290, title)
        _place(canvas, Paragraph(text, _SMALL), x + 20, 274, 228)


def _roadmap(canvas: Canvas) -> None:
    _frame(canvas, 5, "New products")
    canvas.setStrokeColor(SKY)
    canvas.setLineWidth(8)
    canvas.line(_LEFT, 270, _WIDTH - _LEFT, 270)
    for i, (name, when, what) in enumerate(facts.ROADMAP):
        x = _LEFT + 100 + i * 216
        canvas.setFillColor((TEAL, CORAL, NAVY, TEAL)[i])
        canvas.circle(x, 270, 16, stroke=0, fill=1)
        canvas.setFont("Helvetica-Bold", 22)
        canvas.drawCentredString(x, 330, name)
        canvas.setFillColor(NAVY)
        canvas.setFont("Helvetica-Bold", 18)
        canvas.drawCentredString(x, 222, when)
        note = Paragraph(f'<para align="center">{what}</para>', _SMALL)
        _place(canvas, note, x - 90, 206, 180)
    canvas.setFillColor(STONE)
    canvas.setFont("Helvetica-Oblique", 14)
    canvas.drawString(_LEFT, 70, "Dates are first deliveries to customers.")


def _market(canvas: Canvas) -> None:
    _frame(canvas, 7, "Who measures the coast")
    renderPDF.draw(pie_chart(facts.MARKET, size=(520, 300), text=17), canvas, _LEFT, 85)
    lines = (
        "Shares of all coastal buoys in service, counted from public registers.",
        "Brine &amp; Beacon gained most, with rental buoys.",
        "Tidewright leaves the lakes and sells its stock.",
    )
    _bullets(canvas, 590, 385, 320, lines)


def _investments(canvas: Canvas) -> None:
    _frame(canvas, 8, "What it costs")
    total = sum(amount for _, amount, _ in facts.INVESTMENTS)
    rows = [("Investment", "Million crowns", "Year")]
    rows += [(name, f"{amount:.1f}", year) for name, amount, year in facts.INVESTMENTS]
    rows.append(("Total", f"{total:.1f}", ""))
    grid = table(rows, (260, 150, 120), numbers_from=1, sums=(len(rows) - 1,), size=16, pad=10)
    _place(canvas, grid, _LEFT, 410, 530)
    lines = (
        "Paid from cash flow, without new loans.",
        "The vessel replaces two chartered boats.",
        "The board decides on the wave tank in November.",
    )
    _bullets(canvas, 630, 405, 280, lines)


def _map() -> Sheet:
    """A map of the coast with the depots, as pixels."""
    sheet = Sheet((1920, 1080), (178, 212, 222))
    draw = sheet.draw
    for reach, colour in ((46, (190, 220, 228)), (24, (204, 229, 234)), (0, (226, 214, 184))):
        coast = ((0, 250), (240, 300), (420, 220), (640, 330), (820, 300), (900, 470), (1080, 560), (1100, 760), (1300, 860))
        shore = [(x + reach, y - reach) for x, y in coast]
        draw.polygon([*shore, (1340 + reach, 1080), (0, 1080)], fill=colour)
        for x, y, w, h in (
            (1180, 250, 190, 80),
            (1400, 190, 130, 60),
            (1330, 360, 230, 90),
            (1560, 300, 150, 70),
            (760, 110, 150, 60),
        ):
            draw.ellipse((x - reach, y - reach, x + w + reach, y + h + reach), fill=colour)
    sheet.image = sheet.image.filter(ImageFilter.GaussianBlur(3))
    picture = Sheet(sheet.image.size, (0, 0, 0))
    picture.image.paste(sheet.image)
    ink, white, coral = (18, 52, 77), (255, 255, 255), (217, 100, 63)
    picture.write((90, 70), "The sixth depot", "bold", 68, ink)
    for name, x, y in (
        ("Gull Point", 250, 640),
        ("Saltmarsh Bay", 480, 300),
        ("Hollow Head", 860, 560),
    ):
        picture.draw.ellipse((x - 14, y - 14, x + 14, y + 14), fill=ink, outline=white, width=4)
        picture.write((x + 26, y - 20), name, "plain", 34, ink)
    picture.draw.ellipse((1016, 786, 1044, 814), fill=ink, outline=white, width=4)
    picture.write((1004, 780), "Fennel Quay", "plain", 34, ink, "right")
    picture.draw.ellipse((1406, 206, 1434, 234), fill=ink, outline=white, width=4)
    picture.write((1446, 198), "Candle Rock", "plain", 34, ink)
    picture.draw.ellipse((1376, 376, 1424, 424), fill=coral, outline=white, width=6)
    picture.draw.line((1400, 424, 1400, 600), fill=coral, width=6)
    picture.draw.rounded_rectangle((1180, 590, 1860, 960), radius=24, fill=white, outline=coral, width=6)
    picture.write((1220, 622), facts.NEW_DEPOT, "bold", 58, coral)
    for i, line in enumerate((facts.NEW_DEPOT_REGION, f"opens {facts.NEW_DEPOT_OPENS}", "9 technicians, one boat")):
        picture.write((1220, 720 + i * 72), line, "plain", 44, ink)
    return picture
