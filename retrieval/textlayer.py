"""The text layer of a PDF page: its words, each with a box, from pdfium's characters."""

from __future__ import annotations

import ctypes
import itertools
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from colsearcher.indexes.address import Box
from colsearcher.indexes.errors import FileProblem
from colsearcher.retrieval.page import Words

# pdfium reports the hyphen at which a line breaks a word as one of these, and leaves out the line break after it.
_LINE_HYPHENS = "\x02\ufffe"
_PART = rf"[^\s{_LINE_HYPHENS}]+"
_PARTS = re.compile(_PART)
_WORDS = re.compile(rf"{_PART}(?:[{_LINE_HYPHENS}]+{_PART})*")


def words_of(page: pdfium.PdfPage) -> Words:
    """The words that lie on the page as it is shown, in the order pdfium gives. The caller holds pdfium's lock.

    A word broken by a hyphen at the end of a line is joined; its box is that of the longer part. Text is NFKC (so
    ligatures are letters), without control, formatting and private-use characters. A box spans the line's height.

    Raises:
        FileProblem: pdfium cannot read the text layer.
    """
    place = _placement(page)
    text = raw.FPDFText_LoadPage(page.raw)
    if not text:
        raise FileProblem("The page's text layer is broken; --ocr always reads its pixels instead.")
    try:
        spans = _spans(_characters(text))
        boxes = [place(box) for box in _boxes(text, spans)]
    finally:
        raw.FPDFText_ClosePage(text)
    kept = [(content, box) for (_, _, content), box in zip(spans, boxes, strict=True) if box is not None]
    return Words([content for content, _ in kept], array("d", itertools.chain.from_iterable([box for _, box in kept])))


def clean(text: str) -> str:
    """NFKC text without control, formatting and private-use characters, white space collapsed.

    >>> clean("ﬁnal\\x02 \\u00adreport")
    'final report'
    """
    if not (text.isascii() and text.isprintable()):
        normal = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in normal if c.isspace() or (unicodedata.category(c)[0] != "C" and c != "\ufffd"))
    return " ".join(text.split())


def _spans(characters: str) -> list[tuple[int, int, str]]:
    """The words among the characters of a page: first and last index of the part whose box is the word's, clean text."""
    spans = []
    for match in _WORDS.finditer(characters):
        content = match[0]
        first, end = match.span()
        # A page has hundreds of words: what most of them are takes the short way.
        if not (content.isascii() and content.isprintable()):
            parts = list(_PARTS.finditer(characters, first, end))
            first, end = max(parts, key=lambda part: part.end() - part.start()).span()
            content = clean("".join([part[0] for part in parts])).replace(" ", "")
            if not content:
                continue
        spans.append((first, end - 1, content))
    return spans


def _characters(text: raw.FPDF_TEXTPAGE) -> str:
    """All characters of a text page, one for each index."""
    count = raw.FPDFText_CountChars(text)
    units = (ctypes.c_ushort * (count + 1))()
    if raw.FPDFText_GetText(text, 0, count, units) == count + 1:
        found = bytes(units)[: 2 * count].decode("utf-16-le", "surrogatepass")
        if len(found) == count:
            return found
    # Some have no unit of their own in the text, or two.
    codes = (raw.FPDFText_GetUnicode(text, index) for index in range(count))
    return "".join(chr(code) if code < 0x110000 else "\ufffd" for code in codes)


def _boxes(text: raw.FPDF_TEXTPAGE, spans: Sequence[tuple[int, int, str]]) -> Iterator[Box]:
    """(left, bottom, right, top) from the first to the last character of each part, in the page's own points."""
    # pdfium fills one array, which is read at once: to look at one of its fields takes as long as to compute it.
    ends = [index for first, last, _ in spans for index in (first, last)]
    rects = (raw.FS_RECTF * len(ends))()
    for index, rect in zip(ends, rects, strict=True):
        raw.FPDFText_GetLooseCharBox(text, index, rect)
    sides = iter(array("f", bytes(rects)))
    boxes = (
        (left, bottom, right, top) if top > bottom else _char_box(text, index)
        for index, left, top, right, bottom in zip(ends, sides, sides, sides, sides, strict=False)
    )
    return map(_union, boxes, boxes)


def _char_box(text: raw.FPDF_TEXTPAGE, index: int) -> Box:
    """The box of a character itself, for one that has none as high as its line."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    raw.FPDFText_GetCharBox(text, index, left, right, bottom, top)
    return left.value, bottom.value, right.value, top.value


def _union(a: Box, b: Box) -> Box:
    return (
        a[0] if a[0] < b[0] else b[0],
        a[1] if a[1] < b[1] else b[1],
        a[2] if a[2] > b[2] else b[2],
        a[3] if a[3] > b[3] else b[3],
    )


def _placement(page: pdfium.PdfPage) -> Callable[[Box], Box | None]:
    """From a box in the page's own points to fractions of the page as shown; None where its centre is off the page."""
    left, bottom, right, top = page.get_bbox()
    width, height = right - left, top - bottom
    turn = page.get_rotation()

    def place(box: Box) -> Box | None:
        x0, x1 = (box[0] - left) / width, (box[2] - left) / width
        y0, y1 = (top - box[3]) / height, (top - box[1]) / height
        match turn:
            case 90:
                x0, y0, x1, y1 = 1 - y1, x0, 1 - y0, x1
            case 180:
                x0, y0, x1, y1 = 1 - x1, 1 - y1, 1 - x0, 1 - y0
            case 270:
                x0, y0, x1, y1 = y0, 1 - x1, y1, 1 - x0
        if x0 >= 0 and x1 <= 1 and y0 >= 0 and y1 <= 1:
            return x0, y0, x1, y1
        if not (0 <= (x0 + x1) / 2 <= 1 and 0 <= (y0 + y1) / 2 <= 1):
            return None
        return max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)

    return place
