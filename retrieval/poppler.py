"""Drawing PDF pages with poppler (`pdftoppm`), the renderer that many existing ColPali indexes were built with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pdf2image
from pdf2image.exceptions import (
    PDFInfoNotInstalledError,
    PDFPageCountError,
    PDFPopplerTimeoutError,
    PDFSyntaxError,
)
from PIL import Image

from colsearcher.indexes.errors import FileProblem, MissingExtra

_FIX = "install it with «apt-get install poppler-utils» or «brew install poppler», or use --renderer pdfium."


def require_poppler() -> None:
    """Check that poppler can be used.

    Raises:
        MissingExtra: `pdftoppm` or `pdfinfo` is not installed.
    """
    if shutil.which("pdftoppm") is None or shutil.which("pdfinfo") is None:
        raise MissingExtra(f"--renderer poppler needs the program pdftoppm, which is not installed; {_FIX}")


def draw_with_poppler(
    path: Path, number: int, size: tuple[float, float], pixels: tuple[int, int], seconds: float = 60.0
) -> Image.Image:
    """A page in RGB, (width, height) pixels: its crop box, rotated, like pdfium's picture.

    Args:
        path: the PDF.
        number: the 1-based page.
        size: the page's width and height in points as shown.
        pixels: the picture's width and height.
        seconds: after so long poppler is stopped.

    Raises:
        MissingExtra: poppler is not installed.
        FileProblem: poppler cannot draw the page, or not in time.
    """
    require_poppler()
    # By resolution, not by width and height, which some versions of pdftoppm exchange on a rotated page.
    dpi = 72 * max(pixels) / max(size)
    try:
        pictures = pdf2image.convert_from_path(
            path.absolute(),
            dpi=dpi,  # type: ignore[arg-type]
            first_page=number,
            last_page=number,
            use_cropbox=True,
            timeout=max(1, int(seconds)),
        )
    except PDFInfoNotInstalledError as error:
        raise MissingExtra(f"--renderer poppler cannot start pdfinfo; {_FIX}") from error
    except PDFPopplerTimeoutError as error:
        raise FileProblem(f"Poppler did not draw page {number} within {seconds:g} seconds.") from error
    except (PDFPageCountError, PDFSyntaxError) as error:
        raise FileProblem(f"Poppler cannot draw page {number}; try --renderer pdfium.") from error
    if not pictures:
        raise FileProblem(f"Poppler cannot draw page {number}; try --renderer pdfium.")
    drawn = pictures[0].convert("RGB")
    return drawn if drawn.size == pixels else drawn.resize(pixels, Image.Resampling.LANCZOS)
