"""An immutable file of page vectors.

Layout, little endian, every section padded to 64 bytes: a header (magic, dim, bits of the codec, whether originals follow,
rows, pages), the codes and the float16 factors of `codecs`, the pages' float16 centres and int64 first rows, `rows x 4` uint16
box corners (fractions of the page in 1/65535), `rows` uint8 special flags, and, where they are kept beside codes, `rows x dim`
float16 originals. A segment is never changed: it is written, synced, then named in a catalog transaction, or it does not exist.

Codes of fewer than 16 bits stand for what a page's vectors have over their mean, its centre. Words of a page have much in
common, so the rest is shorter, and so is its error: recall@10 of 2-bit codes 0.92 in place of 0.89 (dev/LOG.md, 2026-11-22).
Nothing else changes, for a page's score is then that of its codes plus that of its centre, sum_t w_t · q_t · centre.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colsearcher.indexes.codecs import CODECS, Codec, EncodedVectors
from colsearcher.indexes.errors import IndexProblem
from colsearcher.indexes.records import PageEmbedding

_MAGIC = b"COLSEG\x00\x02"
_HEADER = struct.Struct("<8sIHHQQ")
_ALIGNMENT = 64
_BOX_SCALE = 65535
BOX_BYTES = 8


@dataclass(frozen=True)
class Storage:
    """How vectors are stored: their dimension, the codec, and whether float16 originals lie beside the codes."""

    dim: int
    codec: Codec
    originals: bool

    @property
    def bytes_per_vector(self) -> int:
        """What is stored of a vector, without its box."""
        return self.codec.bytes_per_vector(self.dim) + (2 * self.dim if self.keeps_originals else 0)

    @property
    def keeps_originals(self) -> bool:
        """Whether there is a section of originals; the codes of `fp16` are the originals."""
        return self.originals and self.codec.bits < 16

    @property
    def exact(self) -> bool:
        """Whether float16 vectors can be read back."""
        return self.originals or self.codec.bits == 16


@dataclass(frozen=True)
class StoredRows:
    """Pages of a segment as they are stored: `originals` without rows where they are not kept, `centres` without columns for
    `fp16`."""

    encoded: EncodedVectors
    centres_P_D: np.ndarray
    rows_P: np.ndarray
    boxes_N_4: np.ndarray
    special_N: np.ndarray
    originals_N_D: np.ndarray


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


def encode_rows(embeddings: Sequence[PageEmbedding], storage: Storage) -> StoredRows:
    """The vectors of pages, in order, as they will be stored.

    Raises:
        ValueError: an embedding has another dimension than the storage.
    """
    for e in embeddings:
        if e.vectors.shape[1] != storage.dim:
            raise ValueError(f"a page embedding has {e.vectors.shape[1]} dimensions, the index {storage.dim}.")
    vectors = np.concatenate([e.vectors for e in embeddings])
    rows_P = np.array([len(e.vectors) for e in embeddings])
    kept = vectors if storage.keeps_originals else vectors[:0]
    centres = np.empty((len(rows_P), 0), dtype="<f2")
    to_encode = vectors
    if storage.codec.bits < 16:
        from colsearcher.indexes.kernels.encode import widened

        to_encode = widened(vectors)
        pages = np.split(to_encode, np.cumsum(rows_P)[:-1])
        centres = np.array([page.mean(axis=0) for page in pages]).astype("<f2")
        for page, centre in zip(pages, centres.astype(np.float32), strict=True):
            page -= centre
    return StoredRows(
        storage.codec.encode(to_encode),
        centres,
        rows_P,
        np.concatenate([box_codes(e.boxes) for e in embeddings]),
        np.concatenate([e.special for e in embeddings]).astype("u1"),
        kept.astype("<f2"),
    )


def write_segment(folder: Path, parts: Sequence[StoredRows], storage: Storage) -> SegmentFile:
    """Write and sync a new segment that holds the parts in order. The file name is new each time.

    Raises:
        IndexProblem: the disk is full; nothing is left behind.
    """
    rows_P = np.concatenate([part.rows_P for part in parts])
    rows = int(rows_P.sum())
    header = _HEADER.pack(_MAGIC, storage.dim, storage.codec.bits, storage.keeps_originals, rows, len(rows_P))
    sections: list[Iterable[np.ndarray]] = [
        [np.frombuffer(header, dtype="u1")],
        (part.encoded.codes for part in parts),
        (part.encoded.factors for part in parts),
        (part.centres_P_D for part in parts),
        [(np.cumsum(rows_P) - rows_P).astype("<i8")],
        (part.boxes_N_4 for part in parts),
        (part.special_N for part in parts),
        (part.originals_N_D for part in parts),
    ]
    name = f"{uuid.uuid4().hex}.seg"
    digest = hashlib.sha256()
    size = 0
    try:
        with (folder / name).open("wb") as file:
            for section in sections:
                for block in section:
                    data = np.ascontiguousarray(block).reshape(-1).view("u1").data
                    digest.update(data)
                    size += file.write(data)
                padding = bytes(-size % _ALIGNMENT)
                digest.update(padding)
                size += file.write(padding)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        (folder / name).unlink(missing_ok=True)
        raise IndexProblem(
            f"{folder} cannot be written ({error.strerror}); what was added before is safe: make room, then run this again."
        ) from None
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
    """A segment, memory-mapped: opening it reads the header only.

    Attributes:
        encoded: the codes of all rows.
        originals: the float16 vectors, where they can be read back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise IndexProblem(f"{path.name} is not a ColSearcher segment; run `colsearcher index verify` and add again.")
        _, dim, bits, keeps_originals, rows, pages = _HEADER.unpack(header)
        codec = next(codec for codec in CODECS.values() if codec.bits == bits)
        self.storage = Storage(dim, codec, bool(keeps_originals) or bits == 16)
        columns = codec.code_columns(dim)
        shapes = [
            ("<f2" if bits == 16 else "u1", (rows, columns)),
            ("<f2", (rows if bits < 16 else 0,)),
            ("<f2", (pages, dim if bits < 16 else 0)),
            ("<i8", (pages,)),
            ("<u2", (rows, 4)),
            ("u1", (rows,)),
            ("<f2", (rows if keeps_originals else 0, dim)),
        ]
        offsets = [_ALIGNMENT]
        for kind, shape in shapes:
            offsets.append(_aligned(offsets[-1] + int(np.prod(shape)) * np.dtype(kind).itemsize))
        if path.stat().st_size != offsets[-1]:
            raise IndexProblem(
                f"{path.name} holds {path.stat().st_size:,} bytes where {offsets[-1]:,} were written; "
                "the index is damaged: run `colsearcher index verify`, remove the documents that it names and add them again."
            )
        mapped = np.memmap(path, dtype="u1", mode="r")
        self._mapping: mmap.mmap = mapped._mmap  # type: ignore[attr-defined]
        file_bytes = np.asarray(mapped)
        codes, factors, self._centres, self._first_rows, self._boxes, self._special, originals = (
            file_bytes[at : at + int(np.prod(shape)) * np.dtype(kind).itemsize].view(kind).reshape(shape)
            for at, (kind, shape) in zip(offsets, shapes, strict=False)
        )
        self.encoded = EncodedVectors(codes, factors)
        self.originals: EncodedVectors | None = None
        if bits == 16:
            self.originals = self.encoded
        elif keeps_originals:
            self.originals = EncodedVectors(originals, factors[:0])

    def let_go(self) -> None:
        """Count no longer as memory of this process what was read of the file; it is read again where it is needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def page(self, start: int, rows: int) -> PageEmbedding:
        """The embedding stored at rows start … start + rows: the originals, or what the codes stand for."""
        part = slice(start, start + rows)
        return PageEmbedding(self.vectors(part), box_fractions(self._boxes[part]), self._special[part].astype(bool))

    def vectors(self, rows: slice) -> np.ndarray:
        """(n, dim) float16 originals, or float32 vectors decoded from the codes."""
        if self.originals:
            return self.originals.codes[rows]
        pages = np.searchsorted(self._first_rows, np.arange(rows.start, rows.stop), side="right") - 1
        return self.storage.codec.decode(self.encoded[rows], self.storage.dim) + self._centres[pages].astype(np.float32)

    def centres(self, starts_P: np.ndarray) -> np.ndarray:
        """(P, dim) float32: the centres of the pages that begin at these rows; what codes stand for comes on top."""
        return self._centres[np.searchsorted(self._first_rows, starts_P)].astype(np.float32)

    def rows(self, start: int, rows: int) -> StoredRows:
        """A page as it is stored, to be written elsewhere."""
        part = slice(start, start + rows)
        originals = self.originals.codes[part] if self.originals and self.storage.keeps_originals else np.empty((0, 0), "<f2")
        page = int(np.searchsorted(self._first_rows, start))
        centre = self._centres[page : page + 1]
        return StoredRows(self.encoded[part], centre, np.array([rows]), self._boxes[part], self._special[part], originals)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
