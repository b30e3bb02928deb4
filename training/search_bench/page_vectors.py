"""Ragged page vectors in two raw files: `vectors.npy` (N, D) float16 and `offsets.npy` (P + 1,) int64, both memory-mapped.

Written in chunks, in order, with no more than a chunk in memory; a run that was cut short goes on behind its last chunk.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

# numpy pads the header of a version 1.0 file, whatever the shape, to this length (it leaves room for the shape to grow).
_HEADER_BYTES = 128


@dataclass(frozen=True)
class PageVectors:
    """Page i owns rows offsets_P1[i] … offsets_P1[i + 1] of vectors_N_D."""

    vectors_N_D: np.ndarray
    offsets_P1: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Self:
        return cls(np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "offsets.npy"))

    def __len__(self) -> int:
        return len(self.offsets_P1) - 1

    def page(self, i: int) -> np.ndarray:
        """(n, D) float16."""
        return self.vectors_N_D[self.offsets_P1[i] : self.offsets_P1[i + 1]]

    @property
    def lengths_P(self) -> np.ndarray:
        return np.diff(self.offsets_P1)


@dataclass(frozen=True)
class Chunks:
    """Pages that are made a chunk at a time: `make(i)` gives the (n, D) vectors of the pages of chunk i, always the same."""

    count: int
    make: Callable[[int], Sequence[np.ndarray]]


def clear_unless_made_by(folder: Path, recipe: Mapping[str, object]) -> None:
    """Empty a folder, with all that was derived in it, unless its files were made by this very recipe."""
    file = folder / "recipe.json"
    if file.exists() and json.loads(file.read_text()) == json.loads(json.dumps(recipe)):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file.write_text(json.dumps(recipe))


def write_pages(
    folder: Path, chunks: Chunks, dim: int, on_progress: Callable[[int, int], None] = lambda done, count: None
) -> PageVectors:
    """Write the pages of all chunks, or those that a run before did not get to; nothing where they are all there."""
    if not (folder / "offsets.npy").exists():
        _write(folder, chunks, dim, on_progress)
    return PageVectors.open(folder)


def _write(folder: Path, chunks: Chunks, dim: int, on_progress: Callable[[int, int], None]) -> None:
    state_file = folder / "written.json"
    done, pages, rows = json.loads(state_file.read_text()) if state_file.exists() else (0, 0, 0)
    for name in ("vectors.npy", "lengths.i64"):
        (folder / name).touch()
    with (folder / "vectors.npy").open("r+b") as vectors, (folder / "lengths.i64").open("r+b") as lengths:
        vectors.truncate(_HEADER_BYTES + rows * dim * 2)
        lengths.truncate(pages * 8)
        for i in range(done, chunks.count):
            vectors.seek(0, io.SEEK_END)
            lengths.seek(0, io.SEEK_END)
            made = chunks.make(i)
            vectors.write(np.concatenate(made).astype("<f2", copy=False).tobytes())
            lengths.write(np.array([len(page) for page in made], dtype="<i8").tobytes())
            vectors.flush()
            lengths.flush()
            pages, rows = pages + len(made), rows + sum(map(len, made))
            _replace(state_file, json.dumps([i + 1, pages, rows]).encode())
            on_progress(i + 1, chunks.count)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": (rows, dim)})
        assert len(header.getvalue()) == _HEADER_BYTES
        vectors.seek(0)
        vectors.write(header.getvalue())
    offsets = np.concatenate([[0], np.cumsum(np.fromfile(folder / "lengths.i64", dtype="<i8"))])
    buffer = io.BytesIO()
    np.save(buffer, offsets.astype(np.int64))
    _replace(folder / "offsets.npy", buffer.getvalue())
    state_file.unlink()
    (folder / "lengths.i64").unlink()


def _replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(path.suffix + ".new")
    new.write_bytes(data)
    new.replace(path)
