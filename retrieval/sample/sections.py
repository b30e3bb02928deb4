"""The sections of the annual report, one page each, as stories to flow into its frames."""

from __future__ import annotations

from reportlab.lib.pagesizes import A4
from reportlab.platypus import (
    Flowable,
    FrameBreak,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)
from reportlab.platypus.flowables import TopPadder

from colsearcher.retrieval.sample import facts, prose
from colsearcher.retrieval.sample.charts import bar_chart, line_chart, pie_chart, titled
from colsearcher.retrieval.sample.style import (
    BODY,
    CAPTION,
    CORAL,
    FOOTNOTE,
    HEADING,
    NAVY,
    STONE,
    SUBHEADING,
    TEAL,
    WHITE,
    table,
)

WIDTH, HEIGHT = A4
MARGIN = 60
_INNER = WIDTH - 2 * MARGIN


class _Tiles(Flowable):
    """Key figures in coloured tiles, three in a row."""

    def __init__(self, tiles: tuple[tuple[str, str], ...]) -> None:
        super().__init__()
        self.tiles = tiles
        self.width, self.height = _INNER, 96 * ((len(tiles) + 2) // 3)

    def draw(self) -> None:
        width = (_INNER - 24) / 3
        for i, (value, name) in enumerate(self.tiles):
            x, y = (i % 3) * (width + 12), self.height - 96 * (i // 3 + 1) + 12
            self.canv.setFillColor((NAVY, TEAL, CORAL)[(i + i // 3) % 3])
            self.canv.roundRect(x, y, width, 84, 6, stroke=0, fill=1)
            self.canv.setFillColor(WHITE)
            self.canv.setFont("Helvetica-Bold", 23)
            self.canv.drawString(x + 13, y + 42, value)
            self.canv.setFont("Helvetica", 9.5)
            self.canv.drawString(x + 13, y + 18, name)


def _heading(text: str) -> Paragraph:
    return Paragraph(text, HEADING)


def _prose(paragraphs: tuple[str, ...]) -> list[Flowable]:
    return [Paragraph(text, BODY) for text in paragraphs]


def _footnotes(notes: tuple[str, ...], *, first: int) -> Flowable:
    """Numbered notes under a short rule at the foot of the page."""
    lines = [Paragraph(f"<super>{i}</super> {note}", FOOTNOTE) for i, note in enumerate(notes, start=first)]
    block = Table([[lines]], colWidths=[_INNER], style=TableStyle([("LINEABOVE", (0, 0), (0, 0), 0.6, STONE)]))
    return TopPadder(block)


def glance_page() -> list[Flowable]:
    tiles = (
        (f"{facts.REVENUE[2]}", "Revenue, million crowns"),
        (f"{facts.INCOME[5][1]}", "Operating profit, million crowns"),
        (f"{facts.BUOYS_IN_SERVICE:,}", "Buoys in service at year end"),
        (facts.ON_TIME, "Deliveries on time"),
        (facts.REPORTS_SENT, "Sea reports sent in the year"),
        (facts.RECYCLED, "Foam recycled from old floats"),
    )
    pages = (
        ("The year at a glance", "2"),
        ("A letter to our owners", "3"),
        ("Regions and orders", "4"),
        ("Income statement", "5"),
        ("Cash flow and debt", "6"),
        ("People", "7"),
        ("Service network", "8"),
        ("Board and risks", "9"),
    )
    return [
        _heading("The year at a glance"),
        *_prose(prose.GLANCE),
        Spacer(1, 10),
        _Tiles(tiles),
        Paragraph("In this report", SUBHEADING),
        table((("Section", "Page"), *pages), (_INNER - 60, 60), numbers_from=1),
    ]


def letter_page() -> list[Flowable]:
    return [
        _heading("A letter to our owners"),
        FrameBreak(),
        *_prose(prose.OWNERS[:5]),
        FrameBreak(),
        *_prose(prose.OWNERS[5:]),
        Spacer(1, 12),
        Paragraph(f"<i>{facts.CHIEF_EXECUTIVE}</i>", BODY),
        Paragraph("Chief executive", FOOTNOTE),
    ]


def regions_page() -> list[Flowable]:
    rows: list[tuple[str, ...]] = [("Revenue in million crowns", "2023", "2024", "2025", "Change")]
    lines = [(region.name, region.revenue) for region in facts.REGIONS] + [("All regions", facts.REVENUE)]
    rows += [(name, *(f"{v:.1f}" for v in revenue), f"{facts.growth(revenue):+.1f} %") for name, revenue in lines]
    chart = bar_chart(
        (facts.ORDERS_2024, facts.ORDERS_2025),
        ("First quarter", "Second quarter", "Third quarter", "Fourth quarter"),
        ("2024", "2025"),
        size=(_INNER, 250),
        top=50,
        step=10,
    )
    return [
        _heading("Regions and orders"),
        *_prose(prose.REGIONS),
        table(rows, (_INNER - 4 * 68, 68, 68, 68, 68), numbers_from=1, sums=(len(rows) - 1,)),
        Paragraph("Table 1. Revenue by region; change is 2025 against 2024.", CAPTION),
        titled(chart, "Orders received by quarter, million crowns"),
        Paragraph("Figure 1. Orders received, before cancellations.", CAPTION),
    ]


def income_page() -> list[Flowable]:
    rows = [("Million crowns", "Note", "2025", "2024")]
    rows += [(name, note, f"{now:.1f}", f"{before:.1f}") for name, now, before, note in facts.INCOME]
    return [
        _heading("Income statement"),
        *_prose(prose.INCOME),
        table(rows, (_INNER - 200, 40, 80, 80), numbers_from=1, sums=(3, 6, 8, 10), size=11, pad=9),
        Paragraph("Table 2. Consolidated income statement for the year to 31 December.", CAPTION),
        _footnotes(prose.INCOME_NOTES, first=1),
    ]


def cash_page() -> list[Flowable]:
    rows = [("Million crowns", "2025", "2024")]
    rows += [(name, f"{now:.1f}", f"{before:.1f}") for name, (now, before) in facts.CASH_FLOW.items()]
    chart = line_chart(tuple(facts.NET_DEBT.values()), [str(y) for y in facts.NET_DEBT], size=(_INNER, 240), top=60, step=10)
    return [
        _heading("Cash flow and debt"),
        *_prose(prose.CASH),
        titled(chart, "Net debt at year end, million crowns"),
        Paragraph("Figure 2. Net debt, leases included<super>4</super>.", CAPTION),
        table(rows, (_INNER - 160, 80, 80), numbers_from=1),
        Paragraph("Table 3. Cash generated and how it was used.", CAPTION),
        _footnotes((prose.DEBT_NOTE,), first=4),
    ]


def people_page() -> list[Flowable]:
    rows = [("Employees at year end", "2025", "2024")]
    rows += [(name, str(now), str(before)) for name, now, before in facts.HEADCOUNT]
    rows.append(("Total", str(sum(h[1] for h in facts.HEADCOUNT)), str(sum(h[2] for h in facts.HEADCOUNT))))
    return [
        _heading("People"),
        *_prose(prose.PEOPLE),
        table(rows, (_INNER - 160, 80, 80), numbers_from=1, sums=(len(rows) - 1,)),
        Paragraph("Table 4. Employees by function, full-time posts.", CAPTION),
        Spacer(1, 8),
        titled(pie_chart(facts.AGE_SHARES, size=(_INNER, 200), text=10.5), "Employees by age at the end of 2025"),
        Paragraph("Figure 3. Apprentices are counted, seasonal workers are not.", CAPTION),
    ]


def service_page() -> list[Flowable]:
    depots = [("Depot", "Region", "Opened", "Technicians", "Buoys")]
    depots += [(d.name, d.region, str(d.opened), str(d.technicians), str(d.buoys)) for d in facts.DEPOTS]
    contracts = [("Contract", "Customer", "Buoys", "Runs until", "Value a year")]
    contracts += [(c.number, c.customer, str(c.buoys), str(c.until), f"{c.value:,}") for c in facts.CONTRACTS]
    return [
        _heading("Service network"),
        *_prose(prose.SERVICE),
        table(depots, (110, 125, 70, 90, _INNER - 395), numbers_from=2),
        Paragraph("Table 5. Depots, technicians and the buoys they look after.", CAPTION),
        Spacer(1, 10),
        table(contracts, (90, 145, 70, 80, _INNER - 385), numbers_from=2),
        Paragraph("Table 6. Some service contracts; value in thousand crowns a year.", CAPTION),
        *_prose(prose.SERVICE_AFTER),
    ]


def board_page() -> list[Flowable]:
    rows = (("Member", "Role", "Committee", "Meetings attended"), *facts.BOARD)
    return [
        _heading("Board and risks"),
        *_prose(prose.BOARD),
        table(rows, (125, 130, 120, _INNER - 375), numbers_from=3),
        Paragraph("Table 7. The board of the company in 2025.", CAPTION),
        Paragraph("What could go wrong", SUBHEADING),
        *[Paragraph(f"<b>{name}.</b> {text}", BODY) for name, text in prose.RISKS],
    ]
