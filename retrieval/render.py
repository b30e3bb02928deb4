"""From the recipe of a page's picture to its pixels.

What draws anything but PDF pages through pdfium is imported when it is needed: most reading processes never need it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from colsearcher.retrieval.page import PageImage, Renderer
from colsearcher.retrieval.pdf import PdfFile

if TYPE_CHECKING:
    from PIL import Image

    from colsearcher.retrieval.images import ImageFile

DEFAULT_DPI = 144.0
# Models that look at a page scale it down from this; small pages are not drawn larger.
PICTURE_DPI = 200.0
MAX_PIXELS = 16_000_000

OpenFile: TypeAlias = "PdfFile | ImageFile"


def draw(
    image: PageImage, *, max_side: int | None = None, dpi: float | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Draw a page in RGB.

    Args:
        image: what to draw, and with what.
        max_side: the length of the longer side in pixels. An image file is scaled down to it, never up.
        dpi: pixels per inch; 144 where neither is given. With both, the smaller picture is drawn.
        max_pixels: the picture never has more pixels than this, however large the page is.

    Raises:
        FileProblem: the file or the page cannot be drawn.
        MissingExtra: the renderer is poppler and it is not installed.
    """
    with open_file(image.path, image.renderer) as file:
        return draw_page(file, image, max_side=max_side, dpi=dpi, max_pixels=max_pixels)


def draw_page(
    file: OpenFile,
    image: PageImage,
    *,
    max_side: int | None = None,
    dpi: float | None = None,
    max_pixels: int = MAX_PIXELS,
    seconds: float = 60.0,
) -> Image.Image:
    """`draw` for a file that is open already; `seconds` limits poppler."""
    size = file.size(image.number)
    native = None if isinstance(file, PdfFile) else file.native_pixels(image.number)
    pixels = pixel_size(size, max_side=max_side, dpi=dpi, max_pixels=max_pixels, native=native)
    if image.renderer == "poppler":
        from colsearcher.retrieval.poppler import draw_with_poppler

        return draw_with_poppler(image.path, image.number, size, pixels, seconds)
    return file.draw(image.number, pixels)


def open_file(path: Path, renderer: Renderer) -> OpenFile:
    """The file of a page's picture, open; a context manager.

    Raises:
        FileProblem: the file cannot be opened.
    """
    if renderer != "image":
        return PdfFile(path)
    from colsearcher.retrieval.images import ImageFile

    return ImageFile(path)


def pixel_size(
    size: tuple[float, float],
    *,
    max_side: int | None = None,
    dpi: float | None = None,
    max_pixels: int = MAX_PIXELS,
    native: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Width and height in pixels of a page of `size` points; `native` is the size that may not be exceeded.

    >>> pixel_size((612, 792), dpi=72)
    (612, 792)
    >>> pixel_size((14400, 14400), dpi=144, max_pixels=1_000_000)
    (1000, 1000)
    """
    width, height = size
    scales = [] if dpi is None else [dpi / 72]
    if max_side is not None:
        scales.append(max_side / max(width, height))
    scale = min(scales, default=DEFAULT_DPI / 72)
    if native is not None:
        width, height, scale = native[0], native[1], min(1.0, scale * max(width, height) / max(native))
    scale = min(scale, math.sqrt(max_pixels / (width * height)))
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    if across * down > max_pixels:
        across, down = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    return min(across, max_pixels), min(down, max(1, max_pixels // across))


def is_blank(picture: Image.Image) -> bool:
    """Nothing is drawn: all pixels are alike."""
    return all(low == high for low, high in (band.getextrema() for band in picture.convert("RGB").split()))
