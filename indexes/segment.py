"""An immutable file of page vectors.

Layout, little endian: a 64-byte header (magic, version, dim, rows), `rows x dim` float16 vectors, `rows x 4` uint16 box
corners (fractions of the page in 1/65535), `rows` uint8 special flags. Pages own consecutive rows; which rows is in the
catalog. A segment is never changed: it is written, synced, then named in a catalog transaction, or it does not exist.
"""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colsearcher.indexes.errors import IndexProblem
from colsearcher.indexes.records import PageEmbedding

_MAGIC = b"COLSEG\x00\x01"
_HEADER = struct.Struct("<8sIIQ")
_HEADER_BYTES = 64
_BOX_SCALE = 65535


@dataclass(frozen=True)
class SegmentFile:
    """What the catalog remembers of a segment."""

    file: str
    rows: int
    bytes: int
    sha256: str


def box_codes(boxes_N_4: np.ndarray) -> np.ndarray:
    """Fractions of the page as uint16 codes (1/65535 of a side)."""
    return np.rint(np.clip(boxes_N_4, 0, 1) * _BOX_SCALE).astype("<u2")


def box_fractions(codes_N_4: np.ndarray) -> np.ndarray:
    """The float32 fractions that `box_codes` stood for."""
    return codes_N_4.astype(np.float32) / _BOX_SCALE


def write_segment(folder: Path, embeddings: Sequence[PageEmbedding], dim: int) -> SegmentFile:
    """Write and sync a new segment that holds the embeddings in order. The file name is new each time.

    Raises:
        ValueError: an embedding has another dimension than `dim`.
    """
    rows = sum(len(e.vectors) for e in embeddings)
    for e in embeddings:
        if e.vectors.shape[1] != dim:
            raise ValueError(f"a page embedding has {e.vectors.shape[1]} dimensions, the index {dim}.")
    name = f"{uuid.uuid4().hex}.seg"
    digest = hashlib.sha256()
    size = 0
    with (folder / name).open("wb") as file:
        blocks: list[bytes | memoryview] = [_HEADER.pack(_MAGIC, 1, dim, rows).ljust(_HEADER_BYTES, b"\0")]
        blocks += [np.ascontiguousarray(e.vectors, dtype="<f2").data.cast("B") for e in embeddings if len(e.vectors)]
        blocks += [np.ascontiguousarray(box_codes(e.boxes)).data.cast("B") for e in embeddings if len(e.vectors)]
        blocks += [np.ascontiguousarray(e.special, dtype="u1").data.cast("B") for e in embeddings if len(e.vectors)]
        for block in blocks:
            digest.update(block)
            size += file.write(block)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return SegmentFile(name, rows, size, digest.hexdigest())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Segment:
    """A segment, memory-mapped: opening it reads the header only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise IndexProblem(f"{path.name} is not a ColSearcher segment; run `colsearcher index verify` and add again.")
        _, _, dim, rows = _HEADER.unpack_from(header)
        expected = _HEADER_BYTES + rows * (2 * dim + 8 + 1)
        if path.stat().st_size != expected:
            raise IndexProblem(
                f"{path.name} holds {path.stat().st_size:,} bytes where {expected:,} were written; "
                "the index is damaged: run `colsearcher index verify`, remove the documents that it names and add them again."
            )
        # Mode "c" (copy on write) because torch refuses to wrap read-only arrays without a warning.
        self.vectors = np.memmap(path, dtype="<f2", mode="c", offset=_HEADER_BYTES, shape=(rows, dim))
        after = _HEADER_BYTES + rows * dim * 2
        self._boxes = np.memmap(path, dtype="<u2", mode="c", offset=after, shape=(rows, 4))
        self._special = np.memmap(path, dtype="u1", mode="c", offset=after + rows * 8, shape=(rows,))

    def page(self, start: int, rows: int) -> PageEmbedding:
        """The embedding stored at rows start … start + rows, vectors as float16."""
        stop = start + rows
        return PageEmbedding(
            np.asarray(self.vectors[start:stop]),
            box_fractions(self._boxes[start:stop]),
            self._special[start:stop].astype(bool),
        )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
