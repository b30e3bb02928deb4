"""Image files as pages: PNG, JPEG, TIFF (each of its images is a page), WebP, BMP, GIF."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import cast

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from colsearcher.indexes.errors import FileProblem
from colsearcher.retrieval.corpus import unreadable
from colsearcher.retrieval.page import Word

# Twice Pillow's own warning limit: an A0 sheet at 300 dpi (139 million pixels) is read, a decompression bomb is not.
PIXEL_LIMIT = 178_956_970

# EXIF orientation: what makes the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})


class ImageFile:
    """An open image file with the face of a `PdfFile`; a context manager. Pages count from 1.

    Attributes:
        pages: the number of images in a TIFF, otherwise 1 (the first picture of an animation).
        recovered: always False, a broken image is a problem.
        metadata: always empty.

    Raises:
        FileProblem: the file is unreadable, empty, not an image, or too large to be decoded safely.
    """

    recovered = False

    def __init__(self, path: Path) -> None:
        self.metadata: dict[str, object] = {}
        with _problems():
            if path.stat().st_size == 0:
                raise FileProblem("The file is empty.")
            self._image = Image.open(path)
            self.pages = self._image.n_frames if isinstance(self._image, TiffImageFile) else 1

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._image.close()

    def size(self, number: int) -> tuple[float, float]:
        """Width and height in points as shown: by the file's dpi, or 72 dpi where it names none.

        Raises:
            FileProblem: the page is missing or broken.
        """
        with self._frame(number) as image:
            dpi_x, dpi_y = (float(dpi) if dpi and dpi > 1 else 72.0 for dpi in image.info.get("dpi", (72.0, 72.0)))
            width, height = image.width * 72 / dpi_x, image.height * 72 / dpi_y
            return (height, width) if _is_sideways(image) else (width, height)

    def native_pixels(self, number: int) -> tuple[int, int]:
        """Width and height in the file's own pixels, as shown.

        Raises:
            FileProblem: the page is missing or broken.
        """
        with self._frame(number) as image:
            return (image.height, image.width) if _is_sideways(image) else image.size

    def words(self, number: int) -> tuple[Word, ...]:
        """Nothing: an image has no text layer."""
        return ()

    def image_share(self, number: int) -> float:
        """All of the page is one picture."""
        return 1.0

    def draw(self, number: int, pixels: tuple[int, int]) -> Image.Image:
        """The page in RGB, (width, height) pixels, upright, what is transparent on white.

        Raises:
            FileProblem: the page is missing or broken.
        """
        with self._frame(number) as image:
            turn = _TURNS.get(_orientation(image))
            picture = _rgb(image)
            if turn is not None:
                picture = picture.transpose(turn)
            return picture if picture.size == pixels else picture.resize(pixels, Image.Resampling.LANCZOS, reducing_gap=3.0)

    @contextmanager
    def _frame(self, number: int) -> Iterator[Image.Image]:
        if not 1 <= number <= self.pages:
            raise FileProblem(f"There is no page {number}; the file has {self.pages}.")
        with _problems():
            self._image.seek(number - 1)
            if self._image.width * self._image.height > PIXEL_LIMIT:
                raise FileProblem(_too_large(self._image.size))
            yield self._image


@contextmanager
def _problems() -> Iterator[None]:
    """Turn what Pillow raises about a file into a `FileProblem`."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it then raises, and of sizes below our own limit.
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise FileProblem(_too_large(None)) from error
    except UnidentifiedImageError as error:
        raise FileProblem("The file is not an image of a known kind, or its header is broken.") from error
    except OSError as error:
        reason = unreadable(error) if error.errno else "The image is broken or cut off; replace the file."
        raise FileProblem(reason) from error
    except (SyntaxError, ValueError, EOFError) as error:
        raise FileProblem("The image is broken; replace the file.") from error


def _too_large(size: tuple[int, int] | None) -> str:
    what = "The image" if size is None else f"The image of {size[0]} x {size[1]} pixels"
    return f"{what} has more than {PIXEL_LIMIT // 1_000_000} million pixels; scale it down first."


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied: Pillow itself turns a TIFF upright."""
    return 1 if isinstance(image, TiffImageFile) else image.getexif().get(ExifTags.Base.Orientation, 1)


def _is_sideways(image: Image.Image) -> bool:
    return _orientation(image) in _SIDEWAYS


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        # convert() would clip what has more than 8 bits.
        top = 65535.0 if image.mode.startswith("I") else max(cast("float", image.getextrema()[1]), 1.0)
        return image.convert("F").point(lambda value: value * (255 / top)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        picture = Image.new("RGB", image.size, "white")
        picture.paste(over, mask=over.getchannel("A"))
        return picture
    return image.convert("RGB")
