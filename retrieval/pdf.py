"""PDF files through pdfium: opening what can be opened, page sizes, words with boxes, pixels.

Forms are drawn, but what a reader typed into a form field is no part of the text layer and so not among the words.
"""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from colsearcher.indexes.errors import FileProblem
from colsearcher.retrieval.corpus import unreadable
from colsearcher.retrieval.page import Words
from colsearcher.retrieval.rescue import has_no_pages, with_new_page_tree
from colsearcher.retrieval.textlayer import clean, words_of

if TYPE_CHECKING:
    from PIL import Image

JUNK_LIMIT = 1 << 20

# pdfium keeps global state: one call at a time per process, whatever the document.
_PDFIUM = threading.RLock()

# What a file called .pdf may turn out to be, by its first bytes.
_LOOKS_LIKE = (
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)", re.I | re.S),
        "a web page (HTML)",
    ),
    (re.compile(rb"\s*<(\?xml|svg)", re.I), "an XML file"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive or an Office document"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an old Office document"),
    (re.compile(rb"\x89PNG"), "a PNG image"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG image"),
    (re.compile(rb"(II\*\0|MM\0\*)"), "a TIFF image"),
    (re.compile(rb"%!PS"), "a PostScript file"),
    (re.compile(rb"\{\\rtf"), "an RTF document"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"[\t\n\r\x20-\x7e]+\Z"), "a text file"),
)

_LOCKED = {
    raw.FPDF_ERR_PASSWORD: "The PDF is encrypted with a password; save a copy without it and add that.",
    raw.FPDF_ERR_SECURITY: "The PDF is encrypted in an unknown way; save a copy without encryption and add that.",
}


class PdfFile:
    """An open PDF; a context manager. Pages count from 1.

    Attributes:
        pages: how many pages the document has, at least 1.
        recovered: the file is damaged (junk before the header, cut at the end, broken offsets) and was repaired; pages,
            fonts or pictures may be missing.
        metadata: title, author, subject, keywords and created (ISO 8601), those that the file gives.

    Raises:
        FileProblem: the file is unreadable, empty, not a PDF, encrypted, broken beyond repair or without pages.
    """

    def __init__(self, path: Path) -> None:
        with _PDFIUM:
            self._document, repaired = _open(path)
            self.pages = len(self._document)
            self.recovered = repaired or not raw.FPDF_DocumentHasValidCrossReferenceTable(self._document.raw)
            self.metadata = _metadata(self._document)
            if self._document.get_formtype() != raw.FORMTYPE_NONE:
                self._document.init_forms()
            self._last: tuple[int, pdfium.PdfPage] | None = None

    def __enter__(self) -> PdfFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with _PDFIUM:
            self._close_page()
            self._document.close()

    def size(self, number: int) -> tuple[float, float]:
        """Width and height of a page in points as it is shown: the crop box, rotated.

        Raises:
            FileProblem: the page is missing or broken.
        """
        with _PDFIUM:
            return self._page(number).get_size()

    def words(self, number: int) -> Words:
        """The words of the text layer, see `textlayer.words_of`.

        Raises:
            FileProblem: the page is missing or broken.
        """
        with _PDFIUM:
            return words_of(self._page(number))

    def image_share(self, number: int) -> float:
        """The part of the page, 0 to 1, that the largest picture on it covers.

        Raises:
            FileProblem: the page is missing or broken.
        """
        with _PDFIUM:
            page = self._page(number)
            left, bottom, right, top = page.get_bbox()
            area = (right - left) * (top - bottom)
            share = 0.0
            for picture in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=8):
                x0, y0, x1, y1 = picture.get_bounds()
                width, height = min(x1, right) - max(x0, left), min(y1, top) - max(y0, bottom)
                share = max(share, max(width, 0.0) * max(height, 0.0) / area)
            return share

    def draw(self, number: int, pixels: tuple[int, int]) -> Image.Image:
        """The page in RGB, (width, height) pixels, on white.

        Raises:
            FileProblem: the page is missing, broken or does not fit in memory.
        """
        with _PDFIUM:
            page = self._page(number)
            width, height = pixels
            bitmap = pdfium.PdfBitmap.new_native(width, height, raw.FPDFBitmap_BGRx)
            bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
            place = (0, 0, width, height, 0, raw.FPDF_ANNOT)
            raw.FPDF_RenderPageBitmap(bitmap.raw, page.raw, *place)
            if page.formenv is not None:
                raw.FPDF_FFLDraw(page.formenv.raw, bitmap.raw, page.raw, *place)
            return bitmap.to_pil().convert("RGB")

    def _page(self, number: int) -> pdfium.PdfPage:
        """A page, open until another one is wanted: a page is asked for its words, its size and its picture in turn."""
        if self._last is None or self._last[0] != number:
            self._close_page()
            try:
                self._last = number, self._document[number - 1]
            except (pdfium.PdfiumError, IndexError) as error:
                raise FileProblem(f"Page {number} is missing or broken in the file.") from error
        return self._last[1]

    def _close_page(self) -> None:
        if self._last is not None:
            self._last[1].close()
        self._last = None


def _open(path: Path) -> tuple[pdfium.PdfDocument, bool]:
    """The document, and whether it had to be repaired."""
    try:
        with path.open("rb") as file:
            head = file.read(JUNK_LIMIT)
    except OSError as error:
        raise FileProblem(unreadable(error)) from error
    if not head:
        raise FileProblem("The file is empty.")
    start = head.find(b"%PDF-")
    if start < 0:
        looks = next((what for pattern, what in _LOOKS_LIKE if pattern.match(head[:4096])), "something else")
        raise FileProblem(f"The file is not a PDF; it looks like {looks}.")
    try:
        return pdfium.PdfDocument(path), start > 0
    except pdfium.PdfiumError as error:
        _refuse_locked(error)
    data = path.read_bytes()[start:]
    for repaired in (data if start > 0 else None, with_new_page_tree(data)):
        if repaired is not None:
            try:
                return pdfium.PdfDocument(repaired), True
            except pdfium.PdfiumError as error:
                _refuse_locked(error)
    raise FileProblem("The PDF has no pages." if has_no_pages(data) else "The PDF is broken beyond repair.")


def _refuse_locked(error: pdfium.PdfiumError) -> None:
    if error.err_code in _LOCKED:
        raise FileProblem(_LOCKED[error.err_code]) from error


def _metadata(document: pdfium.PdfDocument) -> dict[str, object]:
    metadata: dict[str, object] = {}
    for key in ("Title", "Author", "Subject", "Keywords"):
        value = clean(document.get_metadata_value(key))
        if value:
            metadata[key.lower()] = value
    created = _iso_date(document.get_metadata_value("CreationDate"))
    if created:
        metadata["created"] = created
    return metadata


_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-])(\d\d)'?(\d\d)?)?")


def _iso_date(text: str) -> str | None:
    """A PDF date (ISO 32000-1, 7.9.4) as ISO 8601, None where it is no date.

    >>> _iso_date("D:20240229133000+01'00'")
    '2024-02-29T13:30:00+01:00'
    """
    match = _DATE.match(text)
    if match is None:
        return None
    parts = zip(match.groups()[:6], (1, 1, 1, 0, 0, 0), strict=True)
    year, month, day, hour, minute, second = (int(value or default) for value, default in parts)
    zulu, sign, zone_hours, zone_minutes = match.groups()[6:]
    zone: timezone | None = UTC if zulu else None
    if sign:
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes or 0))
        zone = timezone(-offset if sign == "-" else offset) if offset < timedelta(hours=24) else None
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).isoformat()
    except ValueError:
        return None
