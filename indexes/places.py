"""The places of a pooled page as bytes in the catalog: small, because a page may have a thousand.

Boxes are stored as in a segment (uint16, fractions of the page in 1/65535), column by column as differences, which on a grid of
patches hardly change; then the owners, uint16. High and low bytes lie apart, and zlib takes out what repeats.
"""

from __future__ import annotations

import zlib

import numpy as np

from colsearcher.indexes.records import Places
from colsearcher.indexes.segment import box_codes, box_fractions

_COLUMNS = 5
MOST_OWNERS = 1 << 16


def encode_places(places: Places) -> bytes:
    """
    Raises:
        ValueError: an owner is not below `MOST_OWNERS`.
    """
    if len(places.owner) and places.owner.max() >= MOST_OWNERS:
        raise ValueError(f"a place is owned by row {places.owner.max()}; a pooled page has at most {MOST_OWNERS:,}.")
    codes = box_codes(places.boxes)
    columns = np.concatenate([np.diff(codes.T, prepend=np.uint16(0)), places.owner[None].astype("<u2")]).astype("<u2")
    return zlib.compress(np.ascontiguousarray(columns).view("u1").reshape(_COLUMNS, -1, 2).transpose(0, 2, 1).tobytes(), 9)


def decode_places(blob: bytes) -> Places:
    """
    >>> places = Places(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], dtype=np.float32), np.array([1, 0]))
    >>> decode_places(encode_places(places)).owner.tolist()
    [1, 0]

    Raises:
        ValueError: these are not the bytes of places.
    """
    try:
        planes = np.frombuffer(zlib.decompress(blob), dtype="u1").reshape(_COLUMNS, 2, -1)
    except zlib.error as error:
        raise ValueError(f"the places of a page cannot be read ({error}).") from None
    columns = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<u2")[..., 0]
    boxes = np.cumsum(columns[:4], axis=1, dtype=np.uint16).T
    return Places(box_fractions(boxes), columns[4].astype(np.int64))
