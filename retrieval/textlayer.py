"""The text layer of a PDF page: its words, each with a box, from pdfium's characters."""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Callable, Iterator

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from colsearcher.indexes.address import Box
from colsearcher.indexes.errors import FileProblem
from colsearcher.retrieval.page import Word

# pdfium reports the hyphen at which a line breaks a word as one of these, and leaves out the line break after it.
_LINE_HYPHENS = "\x02\ufffe"
_RUNS = re.compile(rf"(?P<part>[^\s{_LINE_HYPHENS}]+)|(?P<space>[\s{_LINE_HYPHENS}]*\s[\s{_LINE_HYPHENS}]*)")


def words_of(page: pdfium.PdfPage) -> tuple[Word, ...]:
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
        words = [_word(parts, text, place) for parts in _split(text)]
        return tuple([word for word in words if word is not None])
    finally:
        raw.FPDFText_ClosePage(text)


def clean(text: str) -> str:
    """NFKC text without control, formatting and private-use characters, white space collapsed.

    >>> clean("ﬁnal\\x02 \\u00adreport")
    'final report'
    """
    if not (text.isascii() and text.isprintable()):
        normal = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in normal if c.isspace() or (unicodedata.category(c)[0] != "C" and c != "\ufffd"))
    return " ".join(text.split())


# The characters of one word as (first index, last index, text), one part for each line that it stands on.
_Part = tuple[int, int, str]


def _split(text: raw.FPDF_TEXTPAGE) -> Iterator[list[_Part]]:
    """Cut the characters of a text page at white space."""
    parts: list[_Part] = []
    for run in _RUNS.finditer(_characters(text)):
        if run.lastgroup == "part":
            parts.append((run.start(), run.end() - 1, run[0]))
        elif parts:
            yield parts
            parts = []
    if parts:
        yield parts


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


def _word(parts: list[_Part], text: raw.FPDF_TEXTPAGE, place: Callable[[Box], Box | None]) -> Word | None:
    # A page has hundreds of words: what most of them are takes the short way.
    if len(parts) == 1:
        first, last, content = parts[0]
    else:
        first, last, _ = max(parts, key=lambda part: part[1] - part[0])
        content = "".join([part[2] for part in parts])
    if not (content.isascii() and content.isprintable()):
        content = clean(content).replace(" ", "")
        if not content:
            return None
    loose = raw.FS_RECTF()
    begin = _char_box(text, first, loose)
    box = place(begin if first == last else _union(begin, _char_box(text, last, loose)))
    return None if box is None else Word(content, box)


def _char_box(text: raw.FPDF_TEXTPAGE, index: int, loose: raw.FS_RECTF) -> Box:
    """(left, bottom, right, top) of a character in the page's own points, as high as its line; `loose` is scratch."""
    if raw.FPDFText_GetLooseCharBox(text, index, ctypes.byref(loose)) and loose.top > loose.bottom:
        return loose.left, loose.bottom, loose.right, loose.top
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
