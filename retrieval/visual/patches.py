"""Where on the page each of a model's vectors stands.

Three layouts cover all families. What they share: the page's picture is stretched to whole patches, so a patch is a fraction
of the page, whatever the page's shape.

* `square`: the picture becomes a square of n x n patches, left to right, then down (PaliGemma, Gemma 3);
* `grid`: as many patches down and across as suit the page's shape (Qwen's `image_grid_thw`, merged 2 x 2);
* `tiles`: rows and columns of square tiles, each of s x s patches, tile after tile, then the whole page once more in s x s
  coarse patches (Idefics 3, ModernVBERT). The coarse ones count as special where there are tiles: they see the page, not a
  place on it.

Tokens of the prompt are special: they stand nowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from colsearcher.indexes.errors import ModelProblem

_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


@dataclass(frozen=True)
class Patches:
    """What a page's n tokens stand for: `boxes` (n, 4) float32 in fractions of the page, `special` (n,) bool."""

    boxes: np.ndarray
    special: np.ndarray


def nowhere(tokens: int) -> Patches:
    """Tokens that stand for the whole page."""
    return Patches(np.tile(np.array([0, 0, 1, 1], np.float32), (tokens, 1)), np.ones(tokens, dtype=bool))


def grid_boxes(down: int, across: int) -> np.ndarray:
    """(down * across, 4) float32 boxes of a page cut into equal cells, left to right, then down.

    >>> grid_boxes(2, 1).tolist()
    [[0.0, 0.0, 1.0, 0.5], [0.0, 0.5, 1.0, 1.0]]
    """
    row, column = np.divmod(np.arange(down * across), across)
    edges = [column / across, row / down, (column + 1) / across, (row + 1) / down]
    return np.stack(edges, axis=1).astype(np.float32)


def tile_boxes(tiles: list[tuple[int, int]], side: int) -> np.ndarray:
    """(len(tiles) * side², 4) float32: the patches of tiles at 1-based (row, column), each cut into side x side.

    >>> tile_boxes([(1, 1), (1, 2)], 1).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    down, across = (max(places) for places in zip(*tiles, strict=True))
    inner = grid_boxes(side, side)
    scale = np.array([across, down, across, down], dtype=np.float32)
    return np.concatenate([(inner + np.array([c - 1, r - 1, c - 1, r - 1])) / scale for r, c in tiles]).astype(np.float32)


def square_patches(image_N: np.ndarray) -> Patches:
    """Patches of a square layout; `image_N` (n,) says which tokens are the picture's.

    Raises:
        ModelProblem: the picture's tokens are no square: the processor cuts pages into crops.
    """
    side = math.isqrt(int(image_N.sum()))
    if side * side != image_N.sum():
        raise ModelProblem(
            "The processor cuts pages into crops (do_pan_and_scan), whose places are unknown; set it to false in the "
            "checkpoint's processor_config.json."
        )
    return _placed(image_N, grid_boxes(side, side))


def grid_patches(image_N: np.ndarray, grid_thw: tuple[int, int, int], merge: int) -> Patches:
    """Patches of a grid layout: `grid_thw` counts patches before `merge` x `merge` of them become one token."""
    _, down, across = grid_thw
    return _placed(image_N, grid_boxes(down // merge, across // merge))


def tile_patches(image_N: np.ndarray, text_of: Callable[[slice], str]) -> Patches:
    """Patches of a tiled layout.

    Args:
        image_N: (n,) bool, the tokens of the picture; a run of them is a tile or the whole page.
        text_of: the text of a range of tokens; the one before a tile names its row and column.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], image_N.astype(np.int8), [0]])))
    runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    before = [0, *(stop for _, stop in runs)]
    named = [_TILE.findall(text_of(slice(before[i], start)))[-1:] for i, (start, _) in enumerate(runs)]
    tiles = [(int(found[0][0]), int(found[0][1])) for found in named if found]
    side = math.isqrt(runs[0][1] - runs[0][0])
    whole = grid_boxes(side, side)
    patches = nowhere(len(image_N))
    local = iter(tile_boxes(tiles, side).reshape(-1, side * side, 4)) if tiles else iter(())
    for (start, stop), found in zip(runs, named, strict=True):
        patches.boxes[start:stop] = next(local) if found else whole
        patches.special[start:stop] = bool(tiles) and not found
    return patches


def _placed(image_N: np.ndarray, boxes_M_4: np.ndarray) -> Patches:
    patches = nowhere(len(image_N))
    patches.boxes[image_N] = boxes_M_4
    patches.special[image_N] = False
    return patches
