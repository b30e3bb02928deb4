"""Why this page: how well each place on it matches the query, and the picture of that.

The relevance of a vector is its best weighted similarity over the query's vectors (the maximum over tokens), so a heat map of
the whole query shows every place that any of its words matched. Works on any `PageEmbedding` with boxes, whatever made it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from colsearcher.indexes.address import Address, Box
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.indexes.stop_words import STOP_WORDS
from colsearcher.retrieval.named_words import named_words

# Yellow to red, the colours of a marker pen: the page's own ink stays readable beneath.
_COLD, _HOT = np.array([255, 221, 64], dtype=np.float32), np.array([226, 32, 28], dtype=np.float32)
_MAX_ALPHA = 150
# What share of the best match a place of the same region has, and how far apart neighbours may be, in fractions of the page.
_PART_OF_REGION = 0.5
_GAP = 0.005


@dataclass(frozen=True)
class Evidence:
    """A place that a query word matched best: its address with box, the word, the similarity."""

    address: Address
    word: str
    similarity: float


def relevance(page: PageEmbedding, query: QueryEmbedding) -> np.ndarray:
    """(n,) float32 in [0, 1]: the place's weighted best similarity, from the page's median (0) to its best place (1).

    Special tokens, which stand nowhere, get 0. Of a pooled page (m,): each of its `places` has what its vector has.
    """
    similarities_N_T = page.vectors.astype(np.float32) @ query.vectors.T
    values = (similarities_N_T * _shown_weights(query)).max(1)
    values = np.where(page.special, -np.inf, values)
    if page.places is not None:
        values = values[page.places.owner]
    seen = values[np.isfinite(values)]
    if not len(seen):
        return np.zeros(len(values), dtype=np.float32)
    low, high = float(np.median(seen)), float(seen.max())
    if high <= low:
        return np.isfinite(values).astype(np.float32)
    return np.clip((np.where(np.isfinite(values), values, low) - low) / (high - low), 0, 1).astype(np.float32)


def evidence(address: Address, page: PageEmbedding, query: QueryEmbedding, count: int = 5) -> list[Evidence]:
    """The best place of each query vector that has a word, the best matches first, at most `count` different places."""
    places = page.standing()
    if not len(places.owner):
        return []
    similarities_T_N = query.vectors @ page.vectors[places.owner].astype(np.float32).T
    best_T = similarities_T_N.argmax(1)
    found: dict[tuple[float, ...], Evidence] = {}
    weights = _shown_weights(query)
    for t in np.argsort(-similarities_T_N.max(1) * weights, kind="stable"):
        if weights[t] <= 0 or weights[t] < weights.max():
            continue  # a function word has a place only where the query is made of nothing else
        box = tuple(round(float(v), 4) for v in places.boxes[best_T[t]])
        place = Address(address.document, address.page, box)  # type: ignore[arg-type]
        found.setdefault(box, Evidence(place, query.words[t], float(similarities_T_N[t, best_T[t]])))
    return list(found.values())[:count]


def region(page: PageEmbedding, query: QueryEmbedding) -> Box | None:
    """The box around the place that matches best and those next to it that match more than half as well.

    None where no vector stands anywhere on the page.
    """
    places = page.standing()
    if not len(places.owner):
        return None
    values = relevance(page, query)
    if page.places is None:
        values = values[places.owner]
    hot = places.boxes[values >= _PART_OF_REGION]
    inside = places.boxes[int(values.argmax())][None]
    while True:
        # Neighbours share an edge, give or take rounding; words of a line have a space between them.
        touching = ((hot[:, None, :2] <= inside[None, :, 2:] + _GAP) & (inside[None, :, :2] - _GAP <= hot[:, None, 2:])).all(2)
        grown = hot[touching.any(1)]
        if len(grown) <= len(inside):
            break
        inside = grown
    x0, y0 = inside[:, :2].min(0).tolist()
    x1, y1 = inside[:, 2:].max(0).tolist()
    return round(x0, 4), round(y0, 4), round(x1, 4), round(y1, 4)


def only_words(query: QueryEmbedding, named: str) -> QueryEmbedding:
    """The query with nothing but one of its words, or some that follow each other, for a heat map of those alone.

    Raises:
        UserError: the query has no such words.
    """
    kept = named_words(query.words, named)
    if not kept.any():
        words = ", ".join(dict.fromkeys(own for own in query.words if own))
        noun = "words" if len(named.split()) > 1 else "word"
        raise UserError(f"The question has no {noun} «{named}»; its words are {words or 'unknown to this embedder'}.")
    return replace(query, weights=np.where(kept, np.maximum(query.weights, 1e-3), 0).astype(np.float32))


def _shown_weights(query: QueryEmbedding) -> np.ndarray:
    """(t,) 0 to 1: special tokens and punctuation stand for no word and show nothing, function words next to nothing.

    Every piece of a word counts in full: pieces share the word's weight in a sum, and here the best of them is taken.
    """
    shown = (query.weights > 0) & ~query.special
    if any(query.words):
        shown &= np.array([bool(word) for word in query.words])
    return shown * np.array([0.2 if word in STOP_WORDS else 1.0 for word in query.words])


def draw_heat_map(image: Image.Image, page: PageEmbedding, query: QueryEmbedding) -> Image.Image:
    """The page with relevance as colour over its places and the best place of each query token framed.

    Args:
        image: the page as it is shown, any size.
    """
    scale = min(1.0, 800 / max(image.size))
    grid = np.zeros((max(1, round(image.height * scale)), max(1, round(image.width * scale))), dtype=np.float32)
    values = relevance(page, query)
    boxes = page.boxes if page.places is None else page.places.boxes
    for value, (x0, y0, x1, y1) in zip(values, boxes, strict=True):
        if value > 0:
            rows = slice(int(y0 * grid.shape[0]), max(int(np.ceil(y1 * grid.shape[0])), int(y0 * grid.shape[0]) + 1))
            columns = slice(int(x0 * grid.shape[1]), max(int(np.ceil(x1 * grid.shape[1])), int(x0 * grid.shape[1]) + 1))
            grid[rows, columns] = np.maximum(grid[rows, columns], value)
    # Squaring keeps the middling matches, which every page is full of, from hiding the strong ones.
    heat = Image.fromarray((grid**2 * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(max(grid.shape) / 300))
    heat_H_W = np.asarray(heat.resize(image.size, Image.Resampling.BILINEAR), dtype=np.float32)[..., None] / 255
    alpha = heat_H_W * _MAX_ALPHA / 255
    colour = _COLD + (_HOT - _COLD) * heat_H_W
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) * (1 - alpha) + colour * alpha
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    draw = ImageDraw.Draw(drawn)
    line = max(2, max(image.size) // 700)
    for place in evidence(Address("page", 1), page, query):
        x0, y0, x1, y1 = place.address.box or (0, 0, 1, 1)
        frame = (
            x0 * image.width - line,
            y0 * image.height - line,
            x1 * image.width + line,
            y1 * image.height + line,
        )
        draw.rectangle(frame, outline=(200, 16, 16), width=line)
    return drawn


def crop(image: Image.Image, address: Address) -> Image.Image:
    """The part of the page's picture that an address with a box names; the whole page without one."""
    if address.box is None:
        return image
    x0, y0, x1, y1 = address.box
    left, top = int(x0 * image.width), int(y0 * image.height)
    right, bottom = max(left + 1, round(x1 * image.width)), max(top + 1, round(y1 * image.height))
    return image.crop((left, top, right, bottom))
