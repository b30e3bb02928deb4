"""A picture of a page that remembers where its words were written, also after it has been turned."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import reportlab
from PIL import Image, ImageDraw, ImageFont
from reportlab import rl_config

from colsearcher.indexes.address import Box

_FONTS = Path(reportlab.__file__).parent / "fonts"
_FILES = {"plain": "Vera.ttf", "bold": "VeraBd.ttf", "italic": "VeraIt.ttf"}
Colour = tuple[int, int, int] | tuple[int, int, int, int]


@cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face of Vera, `plain`, `bold` or `italic`, at a size in pixels; reportlab ships the files."""
    return ImageFont.truetype(str(_FONTS / _FILES[face]), size)


@contextmanager
def binary_streams() -> Iterator[None]:
    """Let reportlab keep pictures as bytes: writing them as ASCII takes a second and a quarter more room."""
    before = rl_config.useA85
    rl_config.useA85 = 0
    try:
        yield
    finally:
        rl_config.useA85 = before


@dataclass(frozen=True)
class Written:
    """A line of text and the four corners of each of its characters' cells, in pixels."""

    text: str
    corners: tuple[tuple[tuple[float, float], ...], ...]

    def box(self, start: int, end: int) -> Box:
        points = [point for cell in self.corners[start:end] for point in cell]
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


class Sheet:
    """An image to draw on, and what was written on it, in pixels of `size`; a smaller image may take the image's place.

    >>> sheet = Sheet((200, 100), (255, 255, 255))
    >>> _ = sheet.write((10, 20), "Depth 43 m", "plain", 16, (0, 0, 0))
    >>> [round(edge, 2) for edge in sheet.find("43 m")]
    [0.32, 0.23, 0.52, 0.38]
    """

    def __init__(self, size: tuple[int, int], colour: Colour, mode: str = "RGB") -> None:
        self.size = size
        self.image = Image.new(mode, size, colour)
        self.draw = ImageDraw.Draw(self.image)
        self.written: list[Written] = []

    def write(self, at: tuple[float, float], text: str, face: str, size: int, colour: Colour, align: str = "left") -> float:
        """Write one line with its top at `at`, left, centred or right of it; the line's width in pixels."""
        cut = font(face, size)
        width = cut.getlength(text)
        x, y = at[0] - {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * width, at[1]
        self.draw.text((x, y), text, font=cut, fill=colour)
        _, top, _, bottom = cut.getbbox(text)
        edges = [x + cut.getlength(text[:i]) for i in range(len(text) + 1)]
        cells = tuple(
            ((edges[i], y + top), (edges[i + 1], y + top), (edges[i + 1], y + bottom), (edges[i], y + bottom))
            for i in range(len(text))
        )
        self.written.append(Written(text, cells))
        return width

    def paragraph(self, at: tuple[float, float], text: str, width: float, face: str, size: int, colour: Colour) -> float:
        """Write text in lines of at most `width` pixels; the y below the last line."""
        line, y = "", at[1]
        for word in text.split():
            longer = f"{line} {word}".strip()
            if font(face, size).getlength(longer) > width:
                self.write((at[0], y), line, face, size, colour)
                line, y = word, y + size * 1.5
            else:
                line = longer
        self.write((at[0], y), line, face, size, colour)
        return y + size * 1.5

    def stamp(self, other: Sheet, at: tuple[int, int], degrees: float) -> None:
        """Lay a sheet with transparency over this one, turned counter-clockwise about its middle."""
        turned = other.turned(degrees, (0, 0, 0, 0))
        self.image.paste(turned.image, at, turned.image)
        self.written += [
            Written(w.text, tuple(tuple((x + at[0], y + at[1]) for x, y in cell) for cell in w.corners)) for w in turned.written
        ]

    def turned(self, degrees: float, colour: Colour) -> Sheet:
        """This sheet turned counter-clockwise about its middle; bare corners get `colour`."""
        sheet = Sheet(self.size, colour, self.image.mode)
        sheet.image = self.image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=colour)
        sheet.draw = ImageDraw.Draw(sheet.image)
        middle_x, middle_y = self.size[0] / 2, self.size[1] / 2
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

        def turn(x: float, y: float) -> tuple[float, float]:
            x, y = x - middle_x, y - middle_y
            return middle_x + cosine * x + sine * y, middle_y - sine * x + cosine * y

        sheet.written = [Written(w.text, tuple(tuple(turn(*p) for p in cell) for cell in w.corners)) for w in self.written]
        return sheet

    def find(self, text: str, after: str = "") -> Box:
        """Where the text stands, in fractions of the sheet: its first place in a line from the line with `after` on.

        Raises:
            LookupError: no line holds the text.
        """
        begin = next((i for i, w in enumerate(self.written) if after in w.text), len(self.written))
        for written in self.written[begin:]:
            start = written.text.find(text)
            if start >= 0:
                x0, y0, x1, y1 = written.box(start, start + len(text))
                width, height = self.size
                return x0 / width, y0 / height, x1 / width, y1 / height
        raise LookupError(f"«{text}» is not written on the sheet")

    def jpeg(self, quality: int) -> io.BytesIO:
        """The picture as a JPEG file."""
        file = io.BytesIO()
        self.image.convert("RGB").save(file, "JPEG", quality=quality)
        file.seek(0)
        return file
