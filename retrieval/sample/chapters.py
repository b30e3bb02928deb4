"""The chapters of the field manual, one page each, as stories to flow into its frames."""

from __future__ import annotations

from reportlab.lib.pagesizes import A4, landscape
from reportlab.platypus import (
    Flowable,
    Paragraph,
    Spacer,
)

from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.buoy import overview
from colsearcher.retrieval.sample.panels import ORANGE, box, numbered, wiring
from colsearcher.retrieval.sample.style import CAPTION, HEADING, NAVY, PLAIN, SUBHEADING, table

WIDTH, HEIGHT = A4
MARGIN = 56
_INNER = WIDTH - 2 * MARGIN


def _box(kind: str, text: str) -> Flowable:
    return box(kind, text, _INNER)


def _steps(*steps: str) -> Flowable:
    return numbered(steps, _INNER)


def _page(title: str, *content: Flowable) -> list[Flowable]:
    return [Paragraph(title, HEADING), *content]


def contents_page() -> list[Flowable]:
    rows = (
        ("Chapter", "Page"),
        ("Safety", "2"),
        ("Overview", "3"),
        ("Specification", "4"),
        ("Mooring and launch", "5"),
        ("Wiring and dimensions", "6"),
        ("First start", "7"),
        ("Error codes", "8"),
        ("Upkeep and spare parts", "9"),
    )
    return [
        Paragraph("What this manual covers", SUBHEADING),
        Paragraph(
            f"This manual is written for crews who launch, visit and recover the {facts.PRODUCT}. It assumes a boat with a "
            "crane, two trained people and a calm day. Repairs of the electronics are made at a depot and are not described.",
            PLAIN,
        ),
        Spacer(1, 10),
        table(rows, (_INNER - 70, 70), numbers_from=1, accent=NAVY),
        Spacer(1, 14),
        Paragraph(
            "Changes since revision E: the table of moorings has a row for deeper water, the lamp signals of the first start "
            "are new, and error codes of the load cell have been split.",
            PLAIN,
        ),
    ]


def safety_page() -> list[Flowable]:
    return _page(
        "Safety",
        Paragraph("Read this page before every visit. Most accidents happen late in the day.", PLAIN),
        _box(
            "WARNING",
            f"Hydrogen can collect in the battery bay. Switch the buoy off, wait {facts.BATTERY_WAIT} and only then open "
            "the hatch. No flames, no smoking, no grinding.",
        ),
        _box(
            "WARNING",
            "A hanging buoy swings. Nobody stands between the buoy and the rail, and two guide ropes are kept tight until "
            "the float is in the water.",
        ),
        _box(
            "WARNING",
            "The mooring chain runs out faster than a person can step aside. Keep feet and loose clothing away from it.",
        ),
        _box(
            "NOTE",
            "Marine growth on the float is slippery and the barnacles are sharp. Scrape it on deck, never from a rubber boat.",
        ),
        Paragraph("What the crew wears", SUBHEADING),
        table(
            (
                ("Work", "Helmet", "Life jacket", "Gloves"),
                ("Lifting and launching", "yes", "yes", "leather"),
                ("Opening the hatch", "no", "yes", "rubber, insulating"),
                ("Cleaning the float", "no", "yes", "cut-proof"),
            ),
            (_INNER - 300, 90, 90, 120),
            accent=NAVY,
        ),
        Spacer(1, 10),
        Paragraph(
            "Lift the buoy only by the two eyes of the tower. The eyes carry the buoy with its load cell, but not with the "
            "mooring attached. If the crane shows more than the dry weight, stop and look for a rope under water.",
            PLAIN,
        ),
    )


def overview_page() -> list[Flowable]:
    rows = [("No.", "Part", "What it does")]
    rows += [(str(i), name, does) for i, (name, does) in enumerate(facts.PARTS, start=1)]
    return _page(
        "Overview",
        overview(tuple(name for name, _ in facts.PARTS), size=(_INNER, 360)),
        Paragraph("Drawing 1. The buoy afloat; the dashed line is the water.", CAPTION),
        table(rows, (34, 130, _INNER - 164), size=9.5, pad=3.4, accent=NAVY),
    )


def specification_page() -> list[Flowable]:
    rows = (("Group", "Property", "Value"), *facts.SPECIFICATION)
    return _page(
        "Specification",
        Paragraph(
            "All values hold for a buoy with clean panels, a full battery and the standard mooring. Values for the "
            "ice kit are given in its own leaflet.",
            PLAIN,
        ),
        Spacer(1, 6),
        table(rows, (110, 210, _INNER - 320), accent=NAVY),
        Paragraph("Table 1. Properties of the standard buoy.", CAPTION),
        _box(
            "NOTE",
            "Operation without sun is counted from a full battery at 5 °C with one report an hour. Each further report an "
            "hour costs about four days.",
        ),
    )


def mooring_page() -> list[Flowable]:
    rows = [("Depth of water", "Chain length", "Chain diameter", "Sinker")]
    rows += [(f"{a} to {b} m", f"{length} m", f"{d} mm", f"{kg:,} kg") for a, b, length, d, kg in facts.MOORINGS]
    return _page(
        "Mooring and launch",
        Paragraph("Choose the mooring by the depth of water at the highest tide, then lay everything out on deck.", PLAIN),
        Spacer(1, 4),
        table(rows, (_INNER / 4,) * 4, numbers_from=1, accent=NAVY),
        Paragraph("Table 2. Chain and sinker by depth of water.", CAPTION),
        _steps(
            "Measure the depth twice, at bow and stern, and add the height of the tide.",
            "Lay the chain in bights of two metres, the sinker end uppermost.",
            f"Join the chain to the swivel with the {facts.SHACKLE} and secure its pin with wire.",
            "Check that the load cell reads between 0.1 and 0.3 kN with the chain slack.",
            "Lift the buoy, swing it out and lower it until the float carries half of its weight.",
            "Release the hook, let the boat drift clear and pay out the chain by hand.",
            "Drop the sinker when the chain stands straight. Note the position and the time.",
            "Wait for the first satellite report before you leave the station.",
        ),
        _box("WARNING", "Never tow a moored buoy. If it stands in the wrong place, recover it and launch it again."),
    )


def wiring_page() -> list[Flowable]:
    return _page(
        "Wiring and dimensions",
        wiring((landscape(A4)[0] - 112, 380)),
        Paragraph(
            "Drawing 2. Left: connector X2 below the hatch, seen from the cable side; cross-sections in mm². Right: dimensions "
            "of the buoy with the load cell and without the mooring.",
            CAPTION,
        ),
    )


def start_page() -> list[Flowable]:
    rows = (("Lamp at the hatch", "Meaning and what to do"), *facts.LAMPS)
    return _page(
        "First start",
        Paragraph("Start the buoy on deck, at least ten minutes before the launch, with a free view of the sky.", PLAIN),
        _steps(
            "Turn the key switch below the hatch to ON. All lamps light up for two seconds.",
            "Turn the buoy slowly once around itself; this calibrates the compass.",
            "Enter the station number with the service key and confirm it.",
            "Close the hatch and tighten the eight screws crosswise.",
            "Watch the lamp until it is steady green.",
        ),
        table(rows, (150, _INNER - 150), accent=NAVY),
        Paragraph("Table 3. Signals of the lamp.", CAPTION),
        _box("NOTE", "After a winter in store the first search for satellites may be longer. Move away from metal roofs."),
        Paragraph("After the launch", SUBHEADING),
        Paragraph(
            "The first report arrives within the hour. Compare its wave height with your own estimate: if they differ by more "
            "than half a metre, lift the buoy again and repeat the calibration of the compass. Write the serial number, the "
            "position and the names of the crew into the launch book.",
            PLAIN,
        ),
    )


def faults_page() -> list[Flowable]:
    rows = [("Code", "Meaning", "Remedy")]
    rows += [(fault.code, fault.meaning, fault.remedy) for fault in facts.FAULTS]
    return _page(
        "Error codes",
        Paragraph(
            "The service key shows the code of the last fault. A code stays until it is cleared, even if its cause is gone. "
            "Clear it once; if it returns within a day, follow the remedy.",
            PLAIN,
        ),
        Spacer(1, 6),
        table(rows, (52, 190, _INNER - 242), accent=ORANGE),
        Paragraph("Table 4. Error codes of the standard buoy.", CAPTION),
        _box("WARNING", "With a fault of the load cell the pull of the mooring is unknown. Do not lift the buoy by its chain."),
        Paragraph(
            "Codes that are not in this table come from extra sensors. Their leaflets explain them. If two codes alternate, "
            "begin with the lower one: a weak battery makes many sensors complain.",
            PLAIN,
        ),
    )


def upkeep_page() -> list[Flowable]:
    rows = [("Part no.", "Part", "Torque", "Replace")]
    rows += [(s.number, s.name, f"{s.torque_nm} Nm", s.interval) for s in facts.SPARES]
    return _page(
        "Upkeep and spare parts",
        Paragraph(
            "Visit each buoy at least once a year, better in spring. Order spare parts by number; screws and washers come "
            "with the part. Tighten in two passes, first to half of the torque.",
            PLAIN,
        ),
        Spacer(1, 6),
        table(rows, (80, 170, 90, _INNER - 340), accent=NAVY),
        Paragraph("Table 5. Spare parts, tightening torque and interval.", CAPTION),
        _steps(
            "Scrape the float and rinse the panels with fresh water.",
            "Look at the chain near the sea floor: replace it when a link has lost a tenth of its diameter.",
            "Read out the records and clear the memory.",
            "Test the light in the dark of a closed hand.",
            "Write what you changed into the launch book.",
        ),
        _box("NOTE", "Old batteries and floats are taken back by every depot at no charge."),
    )
