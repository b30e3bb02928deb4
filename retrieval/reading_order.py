"""The order in which a person reads the lines of a page: recursive X-Y cuts (Nagy and Seth, 1984)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from colsearcher.indexes.address import Box

# Narrower or shorter blocks side by side are a table's cells or a list's numbers: they are read row by row.
_COLUMN_SHARE = 0.3
_COLUMN_LINES = 3


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """Indices of the line boxes in reading order.

    A block is cut into two columns at the widest white lane through its whole height, otherwise into two bands at the
    widest white gap across its width, and so on inside the parts. Lines that no cut parts are read from left to right.

    Args:
        boxes: (x0, y0, x1, y1) of each line, origin at the top left, any unit.

    A heading over two columns of three lines:

    >>> left, right = [(0, y, 4, y + 1) for y in (4, 6, 8)], [(5, y, 9, y + 1) for y in (4, 6, 8)]
    >>> reading_order([(0, 0, 9, 1), left[0], right[0], left[1], right[1], left[2], right[2]])
    [0, 1, 3, 5, 2, 4, 6]
    """
    if not boxes:
        return []
    height = median(y1 - y0 for _, y0, _, y1 in boxes)
    return _order(list(range(len(boxes))), boxes, height)


def _order(block: list[int], boxes: Sequence[Box], height: float) -> list[int]:
    if len(block) < 2:
        return block
    # Boxes of neighbouring lines may touch, so a band's edge is looked for between their inner parts.
    cut = _cut(block, [(boxes[i][0], boxes[i][2]) for i in block], 0.5 * height)
    if cut is None or not _are_columns(cut, boxes):
        cut = _cut(block, [_inner(boxes[i]) for i in block], 0.0)
    if cut is None:
        return sorted(block, key=lambda i: boxes[i][0])
    return [index for part in cut for index in _order(part, boxes, height)]


def _cut(block: list[int], spans: Sequence[tuple[float, float]], least: float) -> tuple[list[int], list[int]] | None:
    """The block in two at the widest gap over `least` between the spans, None where there is no such gap."""
    ordered = sorted(zip(spans, block, strict=True))
    widest, at, reach = least, 0, ordered[0][0][1]
    for position, ((start, end), _) in enumerate(ordered):
        if start - reach > widest:
            widest, at = start - reach, position
        reach = max(reach, end)
    if at == 0:
        return None
    return [index for _, index in ordered[:at]], [index for _, index in ordered[at:]]


def _are_columns(parts: tuple[list[int], list[int]], boxes: Sequence[Box]) -> bool:
    widths = [max(boxes[i][2] for i in part) - min(boxes[i][0] for i in part) for part in parts]
    return min(map(len, parts)) >= _COLUMN_LINES and min(widths) >= _COLUMN_SHARE * sum(widths)


def _inner(box: Box) -> tuple[float, float]:
    margin = 0.25 * (box[3] - box[1])
    return box[1] + margin, box[3] - margin
