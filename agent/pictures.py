"""Page images as a vision policy takes them in: cut into patches for a budget of tokens, and where their tokens stand.

Qwen's models (2-VL, 2.5-VL, 3-VL) put one token for each square of `merge` x `merge` patches between a start and an end
token, and give it a position of three parts, time, row and column; what follows goes on after the larger of rows and columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import torch

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
SMALLEST = 4
"""Tokens of the smallest picture that is shown."""


# Longer side to shorter; the models' own limit is 200.
_NARROWEST = 100


@dataclass(frozen=True, eq=False)
class Picture:
    """One image, ready for the model.

    Attributes:
        image: what was cut up.
        pixel_values: (patches, values) float32.
        grid: rows and columns of tokens.
        patches: rows and columns of patches.
        digest: of the patches; two pictures of one digest are the same to the model.
    """

    image: Image.Image
    pixel_values: torch.Tensor
    grid: tuple[int, int]
    patches: tuple[int, int]
    digest: str

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class PictureCutter:
    """Cuts images up for a policy.

    Attributes:
        processor: the image processor of the checkpoint.
        before, pad, after: the tokens around a picture and the one that stands for each square of it.
        video_pad: the token that would stand for a square of a video.
    """

    processor: Any
    before: int
    pad: int
    after: int
    video_pad: int

    @property
    def never_written(self) -> tuple[int, ...]:
        """What a policy must not sample: it stands for pixels that are not there."""
        return self.pad, self.video_pad

    def cut(self, image: Image.Image, max_tokens: int) -> Picture:
        """The image in at most `max_tokens` tokens (at least `SMALLEST`), without those around it.

        A picture that has fewer pixels than these tokens would show is not drawn larger; a strip too narrow for whole squares
        gets a white margin.
        """
        image = _with_margin(image.convert("RGB"), min(max(max_tokens, SMALLEST), _NARROWEST))
        merge = int(self.processor.merge_size)
        side = int(self.processor.patch_size) * merge
        size = {"shortest_edge": SMALLEST * side**2, "longest_edge": max(max_tokens, SMALLEST) * side**2}
        inputs = self.processor(images=[image], size=size, return_tensors="pt")
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        values = inputs["pixel_values"]
        digest = hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]
        return Picture(image, values, (rows // merge, columns // merge), (rows, columns), digest)

    def ids(self, picture: Picture) -> list[int]:
        """The tokens that stand for a picture."""
        return [self.before, *[self.pad] * picture.tokens, self.after]


def _with_margin(image: Image.Image, ratio: int) -> Image.Image:
    """The image, on white if one side is more than `ratio` times the other."""
    width, height = image.size
    size = max(width, -(-height // ratio)), max(height, -(-width // ratio))
    if size == image.size:
        return image
    sheet = Image.new("RGB", size, "white")
    sheet.paste(image, (0, 0))
    return sheet


Position = tuple[int, int, int]


def positions(
    tokens: Sequence[int], pad: int | None, grids: Sequence[tuple[int, int]], first: int = 0
) -> tuple[list[Position], int]:
    """The (time, row, column) position of each token, all three the same for text, and the position that follows.

    >>> positions([7, 9, 9, 8], 9, [(1, 2)])
    ([(0, 0, 0), (1, 1, 1), (1, 1, 2), (3, 3, 3)], 4)
    """
    places: list[Position] = []
    left = iter(grids)
    at = 0
    while at < len(tokens):
        if tokens[at] != pad:
            places.append((first, first, first))
            at, first = at + 1, first + 1
            continue
        rows, columns = next(left)
        places += [(first, first + row, first + column) for row in range(rows) for column in range(columns)]
        at, first = at + rows * columns, first + max(rows, columns)
    return places, first
