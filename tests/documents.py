"""Tiny real documents, made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pypdfium2 as pdfium
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas


def text_pdf(path: Path, pages: Sequence[str], **info: str) -> Path:
    """A PDF of 300 x 200 points a page with each page's text on lines of its own, near the top left."""
    canvas = Canvas(str(path), pagesize=(300, 200))
    if info:
        canvas.setTitle(info["title"])
        canvas.setAuthor(info["author"])
    for text in pages:
        for row, line in enumerate(text.split("\n")):
            canvas.drawString(30, 170 - 14 * row, line)
        canvas.showPage()
    canvas.save()
    return path


def turned_pdf(path: Path, turn: int, *, crop: bool = False, shift: bool = False) -> Path:
    """One page with three words apart from each other, rotated; its crop box or media box may start off (0, 0)."""
    plain = io.BytesIO()
    canvas = Canvas(plain, pagesize=(300, 200))
    for x, y, word in ((70, 140, "Quarterly"), (150, 120, "profit"), (90, 70, "grows")):
        canvas.drawString(x, y, word)
    canvas.drawString(5, 5, "margin")
    canvas.save()
    document = pdfium.PdfDocument(plain.getvalue())
    page = document[0]
    if shift:
        page.set_mediabox(-40, -30, 300, 200)
    if crop:
        page.set_cropbox(50, 40, 280, 190)
    page.set_rotation(turn)
    document.save(str(path))
    document.close()
    return path


def locked_pdf(path: Path) -> Path:
    canvas = Canvas(str(path), encrypt=StandardEncryption("secret"))
    canvas.drawString(30, 700, "nobody reads this")
    canvas.save()
    return path


def pageless_pdf(path: Path) -> Path:
    path.write_bytes(
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
        b"trailer<</Root 1 0 R/Size 3>>\n%%EOF\n"
    )
    return path


def endless_pdf(path: Path, levels: int = 10) -> Path:
    """Three pages; the second draws a form that draws a form … ten levels deep, ten times each: no reader ends it.

    With fewer levels it only takes long."""
    canvas = Canvas(str(path), pagesize=(300, 200))
    canvas.drawString(30, 170, "the first page is good as gold")
    canvas.showPage()
    canvas.beginForm("level0")
    canvas.drawString(30, 170, "x")
    canvas.endForm()
    for level in range(1, levels + 1):
        canvas.beginForm(f"level{level}")
        for _ in range(10):
            canvas.doForm(f"level{level - 1}")
        canvas.endForm()
    canvas.doForm(f"level{levels}")
    canvas.showPage()
    canvas.drawString(30, 170, "the third page is good as gold")
    canvas.save()
    return path


def picture(lines: Sequence[str], size: tuple[int, int] = (900, 600), at: tuple[int, int] = (60, 60)) -> Image.Image:
    """Lines of text as a white picture."""
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        pen.text((at[0], at[1] + 60 * row), line, "black", font=ImageFont.load_default(36))
    return image


def scanned_pdf(path: Path, scan: Image.Image, stamp: str = "") -> Path:
    """Two pages: a picture that covers the page with a stamp of real text at the top, and an empty page."""
    canvas = Canvas(str(path), pagesize=(600, 400))
    canvas.drawImage(ImageReader(scan), 0, 0, 600, 400)
    canvas.drawString(40, 385, stamp)
    canvas.showPage()
    canvas.showPage()
    canvas.save()
    return path


def packed_pdf(path: Path) -> Path:
    """One page whose objects are all inside a compressed object stream, as most writers since PDF 1.5 leave them."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 5 0 R/Resources<</Font<</F 4 0 R>>>>>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    offsets = [sum(len(one) + 1 for one in objects[:index]) for index in range(4)]
    head = b" ".join(b"%d %d" % (index + 1, offset) for index, offset in enumerate(offsets)) + b"\n"
    packed = zlib.compress(head + b"\n".join(objects))
    text = b"BT /F 12 Tf 30 170 Td (packed words) Tj ET"
    file = b"%PDF-1.5\n"
    fifth = len(file)
    file += b"5 0 obj\n<</Length %d>>\nstream\n%s\nendstream\nendobj\n" % (len(text), text)
    sixth = len(file)
    file += b"6 0 obj\n<</Type/ObjStm/N 4/First %d/Filter/FlateDecode/Length %d>>\nstream\n" % (len(head), len(packed))
    file += packed + b"\nendstream\nendobj\n"
    seventh = len(file)
    rows = [(0, 0, 0), *((2, 6, index) for index in range(4)), (1, fifth, 0), (1, sixth, 0), (1, seventh, 0)]
    table = b"".join(struct.pack(">BHB", *row) for row in rows)
    file += b"7 0 obj\n<</Type/XRef/Size 8/W[1 2 1]/Root 1 0 R/Length %d>>\nstream\n%s\nendstream\nendobj\n" % (
        len(table),
        table,
    )
    path.write_bytes(file + b"startxref\n%d\n%%%%EOF\n" % seventh)
    return path
