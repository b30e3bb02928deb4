"""Draws the flyer of the open day, a picture like a photograph with large words on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from colsearcher.retrieval.sample import facts
from colsearcher.retrieval.sample.sheet import Sheet

_SIZE = (1000, 1414)
_HORIZON = 800


def draw_flyer(path: Path) -> Sheet:
    """Write the flyer as a PNG; the sheet knows where its words stand."""
    sheet = Sheet(_SIZE, (0, 0, 0))
    sheet.image = _evening()
    sheet.draw = ImageDraw.Draw(sheet.image)
    for x, y, size in ((690, 1010, 1.0), (250, 880, 0.5), (905, 850, 0.32)):
        _silhouette(sheet.draw, x, y, size)
    white, sand, navy = (255, 255, 255), (255, 226, 170), (16, 34, 58)
    sheet.write((500, 90), "OPEN DAY", "bold", 136, white, "centre")
    sheet.write((500, 262), "at the Ottermere Buoy Works", "plain", 48, white, "centre")
    sheet.write((500, 350), facts.OPEN_DAY, "bold", 46, sand, "centre")
    sheet.draw.rectangle((0, 1130, _SIZE[0], _SIZE[1]), fill=navy)
    for i, line in enumerate(
        (
            f"Free ferry from {facts.FERRY_PIER}, every half hour from 9:30",
            f"Last ferry back at {facts.LAST_FERRY}",
            "Climb into a float, feed the wave machine,",
            "fish soup and lemonade on the slipway",
        )
    ):
        sheet.write((500, 1162 + i * 58), line, "bold" if i < 2 else "plain", 32, white if i < 2 else sand, "centre")
    sheet.image.save(path, "PNG")
    return sheet


def _evening() -> Image.Image:
    """Sky and sea at dusk with the sun's glitter on the water."""
    width, height = _SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    sky = np.clip(y / _HORIZON, 0, 1)[..., None]
    high, low = np.array((38, 58, 110), np.float32), np.array((250, 160, 96), np.float32)
    picture = high + (low - high) * sky**1.6
    distance = np.hypot(x - 400, y - 690)
    picture += np.exp(-distance / 140)[..., None] * np.array((110, 90, 40), np.float32)
    picture[distance < 62] = (255, 238, 196)
    depth = np.clip((y - _HORIZON) / (height - _HORIZON), 0, 1)
    ripple = np.sin(y * 0.9 / (0.25 + depth) + 2.2 * np.sin(x * 0.012 + y * 0.07)) * np.sin(x * 0.02 + y * 0.31)
    glitter = np.exp(-np.abs(x - 400) / (60 + 260 * depth)) * np.clip(ripple + 0.35, 0, 1)
    sea = np.array((34, 62, 96), np.float32) * (1.1 - 0.5 * depth[..., None]) + 10 * ripple[..., None]
    sea = sea + glitter[..., None] * np.array((220, 150, 80), np.float32)
    water = y >= _HORIZON
    picture[water] = sea[water]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _silhouette(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    """A buoy against the light, its waterline at (x, y)."""
    dark, yellow = (22, 26, 40), (214, 160, 40)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x + size * px, y + size * py) for px, py in points]

    draw.polygon(at((-120, -34), (120, -34), (92, 30), (-92, 30)), fill=yellow, outline=dark)
    draw.polygon(at((-38, -34), (38, -34), (18, -210), (-18, -210)), fill=dark)
    draw.rectangle(at((-44, -222), (44, -210)), fill=dark)
    draw.line(at((0, -222), (0, -290)), fill=dark, width=max(1, int(5 * size)))
    draw.ellipse(at((-13, -316), (13, -290)), fill=(255, 240, 150))
