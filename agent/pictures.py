"""Page images as a vision policy takes them in: drawn for a budget of tokens, cut into patches, and where their tokens stand.

Qwen's models (2-VL, 2.5-VL, 3-VL) put one token for each square of `merge` x `merge` patches between a start and an end
token, and give it a position of three parts, time, row and column; what follows goes on after the larger of rows and columns.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from colsearcher.agent.engine import EngineProblem

if TYPE_CHECKING:
    import torch

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
SMALLEST = 4
"""Tokens of the smallest picture that is shown."""


# Longer side to shorter; the models' own limit is 200.
_NARROWEST = 100


@dataclass(frozen=True, eq=False)
class Picture:
    """One image in a conversation.

    Attributes:
        image: as large as the model sees it.
        grid: rows and columns of tokens.
    """

    image: Image.Image
    grid: tuple[int, int]

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @cached_property
    def url(self) -> str:
        """The image as a data URL, which a server is sent at each turn anew."""
        file = BytesIO()
        self.image.save(file, "PNG")
        return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


@dataclass(frozen=True, eq=False)
class CutPicture(Picture):
    """One image, ready for the model.

    Attributes:
        pixel_values: (patches, values) float32.
        patches: rows and columns of patches.
        digest: of the patches; two pictures of one digest are the same to the model.
    """

    pixel_values: torch.Tensor
    patches: tuple[int, int]
    digest: str


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

    @property
    def side(self) -> int:
        """Pixels along a token."""
        return int(self.processor.patch_size) * int(self.processor.merge_size)

    def cut(self, image: Image.Image, max_tokens: int) -> CutPicture:
        """The image in at most `max_tokens` tokens (at least `SMALLEST`), without those around it."""
        image = draw_in_tokens(image, max_tokens, self.side)
        inputs = self.processor(images=[image], do_resize=False, return_tensors="pt")
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        values = inputs["pixel_values"]
        digest = hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]
        grid = image.height // self.side, image.width // self.side
        return CutPicture(image, grid, values, (rows, columns), digest)

    def sizes(self, context: int) -> dict[str, int]:
        """The limits within which an image processor of the checkpoint leaves as it is what was cut here."""
        return {"shortest_edge": SMALLEST * self.side**2, "longest_edge": context * self.side**2}

    def ids(self, picture: Picture) -> list[int]:
        """The tokens that stand for a picture."""
        return [self.before, *[self.pad] * picture.tokens, self.after]


class SeeingEngine:
    """The base of engines that cut pictures up themselves; stands before other bases.

    Attributes:
        name: of the policy, for messages.
        cutter: of a policy that sees.
    """

    name: str
    cutter: PictureCutter | None

    @property
    def sees(self) -> bool:
        return self.cutter is not None

    @property
    def pad_token(self) -> int | None:
        """The token that stands for a square of a picture; None where there are no pictures."""
        return None if self.cutter is None else self.cutter.pad

    @property
    def never_written(self) -> tuple[int, ...]:
        """Tokens that the policy must not sample."""
        return () if self.cutter is None else self.cutter.never_written

    def picture(self, image: Image.Image, max_tokens: int) -> tuple[list[int], Picture]:
        if self.cutter is None:
            raise EngineProblem(
                f"{self.name} does not see pictures. Choose a policy that does, such as Qwen/Qwen2.5-VL-3B-Instruct."
            )
        picture = self.cutter.cut(image, max_tokens)
        return self.cutter.ids(picture), picture


def draw_in_tokens(image: Image.Image, max_tokens: int, side: int) -> Image.Image:
    """The image in whole squares of `side` pixels, at least `SMALLEST` and at most `max_tokens` of them.

    One that has fewer pixels than these tokens would show is not drawn larger; a strip too narrow for whole squares gets a
    white margin.

    >>> draw_in_tokens(Image.new("RGB", (600, 400)), 40, 28).size
    (196, 140)
    """
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    most = max(max_tokens, SMALLEST)
    image = _with_margin(image.convert("RGB"), min(most, _NARROWEST))
    height, width = smart_resize(image.height, image.width, side, SMALLEST * side**2, most * side**2)
    return image if (width, height) == image.size else image.resize((width, height), Image.Resampling.BICUBIC)


def places_of(ids: Sequence[int], pad: int | None, pictures: Sequence[Picture]) -> list[int]:
    """Where among the ids the tokens of each picture begin.

    Raises:
        ValueError: the ids stand for other pictures, or for more.
    """
    places: list[int] = []
    at = 0
    for picture in pictures:
        at = next((n for n in range(at, len(ids)) if ids[n] == pad), len(ids))
        places.append(at)
        at += picture.tokens
    filled = [place + n for place, picture in zip(places, pictures, strict=True) for n in range(picture.tokens)]
    if filled != [place for place, token in enumerate(ids) if token == pad]:
        raise ValueError("the pictures are not those that the tokens stand for")
    return places


def one_token_each(ids: Sequence[int], pad: int, pictures: Sequence[tuple[int, Picture]]) -> list[int]:
    """The ids with one `pad` for each picture, as vLLM takes them, which makes as many of it as the image has squares.

    Args:
        pictures: with where among the ids those of each begin.
    """
    short: list[int] = []
    after = 0
    for at, picture in pictures:
        short += [*ids[after:at], pad]
        after = at + picture.tokens
    return [*short, *ids[after:]]


def model_inputs(pictures: Sequence[CutPicture]) -> dict[str, torch.Tensor]:
    """What the model is given besides tokens, for pictures in their order."""
    import torch

    grids = torch.tensor([(1, *picture.patches) for picture in pictures])
    return {"pixel_values": torch.cat([picture.pixel_values for picture in pictures]), "image_grid_thw": grids}


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
