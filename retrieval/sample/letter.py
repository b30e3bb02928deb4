"""Draws a letter as an office scanner would see it: paper tone, tilt, noise, punch holes, a stamp, no text layer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.sheet import Sheet, binary_streams

_SIZE = (1654, 2339)  # A4 at 200 dpi, to draw on
_SCANNED = (1240, 1754)  # A4 at 150 dpi, to keep
_PAPER = (248, 244, 233)
_INK = (38, 38, 44)
_BLUE = (36, 52, 120)
_RED = (168, 38, 44)
_TEXT = 29
_LEFT, _RIGHT = 210, 1480


def draw_letter(path: Path, seed: int) -> list[Sheet]:
    """Write the scan, two pages; the seed sets the noise and the tilt. The sheets know where the words stand."""
    random = np.random.default_rng(seed)
    sheets = [_scan(_letter(), random), _scan(_enclosure(), random)]
    with binary_streams():
        canvas = Canvas(str(path), pagesize=A4, invariant=1)
        canvas.setTitle("Scan 2026-04-09")
        canvas.setAuthor(facts.COMPANY)
        for sheet in sheets:
            canvas.drawImage(ImageReader(sheet.jpeg(70)), 0, 0, *A4)
            canvas.showPage()
        canvas.save()
    return sheets


def _letter() -> Sheet:
    sheet = _letterhead()
    y = 440.0
    for line in (facts.COMPANY, "Service department", "1 Ropewalk", "Ottermere"):
        sheet.write((_LEFT, y), line, "plain", _TEXT, _INK)
        y += 42
    sheet.write((_RIGHT, 640), f"Hollow Head, {facts.LETTER_DATE}", "plain", _TEXT, _INK, "right")
    sheet.write((_LEFT, 740), "Our reference: HH/26-0417", "plain", 25, _INK)
    sheet.write((_LEFT, 780), f"Service contract: {facts.LETTER_CONTRACT}", "plain", 25, _INK)
    sheet.write((_LEFT, 870), f"Faulty buoy at station {facts.BAD_STATION.name}", "bold", 32, _INK)
    y = 950
    for text in (
        "Dear service department,",
        f"You look after our {facts.PRODUCT} buoys under the contract named above. Since the storm of 27 March the buoy at "
        f"station {facts.BAD_STATION.name} no longer reports the pull of its mooring. When our pilot boat went "
        f"alongside, the service key showed error code {facts.LETTER_FAULT}. The wave heights still look sensible.",
        "We have not lifted the buoy, since we do not know how hard the chain pulls. The pilots depend on this "
        "station when they bring in the timber ships on the spring tide. Last year a fault of another kind at Widow "
        "Shoal was repaired within nine days, for which we thank you again.",
        f"Please finish the repair by {facts.REPAIR_BY} and bring the parts that your manual asks for. While you are there, "
        "please also check whether the chain is as long as your manual prescribes for the depth of that station. A "
        "list of our stations is enclosed.",
        "Our launch Perpetua can take two technicians on board. She is free on Tuesdays; please call the harbour office "
        "the day before, extension 52.",
        "Yours faithfully,",
    ):
        y = sheet.paragraph((_LEFT, y), text, _RIGHT - _LEFT, "plain", _TEXT, _INK) + 22
    _sign(sheet, (_LEFT + 10, y + 75))
    sheet.write((_LEFT, y + 160), facts.HARBOUR_MASTER, "plain", _TEXT, _INK)
    sheet.write((_LEFT, y + 202), "Harbour master", "plain", _TEXT, _INK)
    sheet.write((_LEFT, 2180), "Enclosure: list of stations", "plain", 24, _INK)
    sheet.stamp(_received(), (1010, 400), 7)
    return sheet


def _enclosure() -> Sheet:
    sheet = _letterhead()
    sheet.write((_LEFT, 440), f"Enclosure to our letter of {facts.LETTER_DATE}", "plain", 25, _INK)
    sheet.write((_LEFT, 500), f"List of stations, {facts.PRODUCT}", "bold", 36, _INK)
    columns = (_LEFT + 16, 590, 900, 1170)
    top, step = 610, 82
    rows = [("Station", "Serial number", "Depth", "Last service")]
    rows += [(s.name, s.serial, f"{s.depth_m} m", s.last_service) for s in facts.STATIONS]
    for i, row in enumerate(rows):
        y: float = top + i * step
        sheet.draw.rectangle((_LEFT, y, _RIGHT, y + step), outline=_INK, width=2, fill=(232, 227, 212) if i == 0 else None)
        for x, cell in zip(columns, row, strict=True):
            sheet.write((x, y + 24), cell, "bold" if i == 0 else "plain", _TEXT, _INK)
    for x in columns[1:]:
        sheet.draw.line((x - 16, top, x - 16, top + step * len(rows)), fill=_INK, width=2)
    y = top + step * len(rows) + 50
    for text in (
        "Depths are measured from the highest tide. The stations not listed here belong to the Fisheries Office and are "
        "serviced by another company.",
        "Spare keys for the buoys hang in the harbour office behind the tide table. Please sign for them.",
    ):
        y = sheet.paragraph((_LEFT, y), text, _RIGHT - _LEFT, "plain", 27, _INK) + 16
    return sheet


def _letterhead() -> Sheet:
    sheet = Sheet(_SIZE, _PAPER)
    draw = sheet.draw
    x, y = _LEFT, 130
    draw.polygon(((x + 34, y + 150), (x + 86, y + 150), (x + 76, y + 44), (x + 44, y + 44)), outline=_BLUE, width=5)
    draw.rectangle((x + 40, y + 22, x + 80, y + 44), fill=_BLUE)
    draw.polygon(((x + 36, y + 22), (x + 84, y + 22), (x + 60, y)), fill=_BLUE)
    draw.rectangle((x + 42, y + 84, x + 78, y + 110), fill=_BLUE)
    draw.arc((x - 10, y + 140, x + 64, y + 176), 200, 340, fill=_BLUE, width=5)
    draw.arc((x + 52, y + 140, x + 130, y + 176), 200, 340, fill=_BLUE, width=5)
    sheet.write((x + 160, 160), facts.HARBOUR, "bold", 50, _BLUE)
    sheet.write((x + 160, 232), "Harbour Office, 4 Signal Steps, Hollow Head, Grey Fjords", "plain", 25, _BLUE)
    draw.line((_LEFT, 330, _RIGHT, 330), fill=_BLUE, width=4)
    return sheet


def _received() -> Sheet:
    stamp = Sheet((440, 230), (0, 0, 0, 0), "RGBA")
    red = (*_RED, 225)
    stamp.draw.rounded_rectangle((20, 36, 420, 194), radius=14, outline=red, width=6)
    stamp.write((220, 52), "RECEIVED", "bold", 40, red, "centre")
    stamp.write((220, 104), facts.RECEIVED, "bold", 38, red, "centre")
    stamp.write((220, 156), "Ottermere, post room", "plain", 22, red, "centre")
    return stamp


def _sign(sheet: Sheet, at: tuple[float, float]) -> None:
    """A signature: a pen that loops along and tires."""
    line = []
    for i in range(240):
        t = i / 239
        height = 58 * (1 - 0.6 * t) * (1 if i > 30 else 1.5)
        loop = math.sin(26 * t + 0.8 * math.sin(9 * t))
        line.append((at[0] + 430 * t + 26 * math.cos(26 * t), at[1] - height * loop * (0.5 + 0.5 * math.cos(5 * t) ** 2)))
    sheet.draw.line(line, fill=_BLUE, width=5, joint="curve")
    sheet.draw.line(((at[0] + 60, at[1] + 50), (at[0] + 420, at[1] + 34)), fill=_BLUE, width=4)


def _scan(sheet: Sheet, random: np.random.Generator) -> Sheet:
    for y in (760, 1580):
        sheet.draw.ellipse((46, y - 34, 114, y + 34), fill=(120, 116, 108), outline=(90, 86, 80), width=3)
    sheet.draw.line((0, 775, _SIZE[0], 779), fill=(233, 228, 214), width=3)
    scan = sheet.turned(0.6 + float(random.uniform(-0.08, 0.08)), (214, 210, 200))
    pixels = np.asarray(scan.image.resize(_SCANNED, Image.Resampling.BILINEAR, reducing_gap=1.5), dtype=np.int16)
    grain = random.integers(-11, 12, size=pixels.shape[:2], dtype=np.int16)
    edge = (14 * np.linspace(-1, 1, _SCANNED[0]) ** 4).astype(np.int16)
    foot = (6 * np.linspace(0, 1, _SCANNED[1]) ** 2).astype(np.int16)
    shade = edge[None, :] + foot[:, None]
    scan.image = Image.fromarray(np.clip(pixels + (grain - shade)[:, :, None], 0, 255).astype(np.uint8))
    return scan
