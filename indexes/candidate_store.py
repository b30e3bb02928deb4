"""The files of a candidate index: built in bounded memory, written whole or not at all, mapped when they are read.

A folder holds `pages.npy` (int64, the page id of each pooled vector), `candidates.json`, which says what the files are and
their sha256, and the pooled vectors: `codes` and `factors` of a codec, or `pooled.faiss`. There zeros fill vectors up to a
multiple of 16 components, without which FAISS compares bytes one by one. A build works in `<folder>.part` beside it and
renames that as its last step: a folder without the suffix is complete, and is never changed afterwards.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from colsearcher.indexes.codecs import CODECS, EncodedVectors
from colsearcher.indexes.errors import IndexProblem, MissingExtra
from colsearcher.indexes.segment import file_sha256, sync_folder

Kind = Literal["scan", "flat", "ivf", "rabitq", "hnsw"]

FORMAT = 2
# Of the pooled vectors of `scan`: at 50,000 pages as good as float16 (dev/LOG.md, 2026-11-22).
CODEC = CODECS["4bit"]
_INDEX, _CODES, _FACTORS, _PAGES = "pooled.faiss", "codes", "factors", "pages.npy"
_DESCRIPTION, _SPOOL = "candidates.json", "spool"
_FIX = "run `colsearcher index tune` to make it again."
# Pooled vectors handled at a time, and sampled for each inverted list that is trained.
_CHUNK = 65_536
_TRAINED_PER_LIST = 40


@dataclass(frozen=True)
class Description:
    """What `candidates.json` says: the kind, the length and the number of pooled vectors, sha256 and size of each file."""

    kind: Kind
    dim: int
    vectors: int
    sha256: dict[str, str]
    bytes: dict[str, int]
    format: int = FORMAT


def load_faiss() -> Any:
    """The module `faiss`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError:
        raise MissingExtra(
            "These candidate pages need the package faiss, which is not installed; "
            "install colsearcher[cpu], or colsearcher[gpu] where there is an NVIDIA GPU."
        ) from None
    return faiss


def padded_width(dim: int) -> int:
    """Components of a pooled vector of length `dim` as FAISS sees it.

    >>> padded_width(128), padded_width(15)
    (128, 16)
    """
    return -(-dim // 16) * 16


def write_candidates(batches: Iterable[tuple[np.ndarray, np.ndarray]], dim: int, kind: Kind, folder: Path) -> None:
    """Build an index over pooled vectors and write it.

    For FAISS the vectors are first spooled to disk as float16; what is trained is trained on a sample of all of them, and then
    they are added some at a time. Memory holds the finished index, its growth and the sample; codes are never held at all.

    Args:
        batches: (g, dim) float pooled vectors, and the (g,) int page id of each; those of a page follow one another.
        dim: length of a pooled vector.
        kind: see `CandidateIndex`.
        folder: is made; must not exist.

    Raises:
        FileExistsError: `folder` exists.
        MissingExtra: faiss is not installed, and the kind needs it.
        ValueError: a batch has another dimension, or not one page id for each vector.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a candidate index is written once.")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    page_of_G = _write_codes(batches, dim, part) if kind == "scan" else _write_faiss(batches, dim, kind, part)
    np.save(part / _PAGES, page_of_G)
    files = [part / name for name in _names(kind)]
    sizes = {file.name: file.stat().st_size for file in files}
    description = Description(kind, dim, len(page_of_G), {file.name: file_sha256(file) for file in files}, sizes)
    (part / _DESCRIPTION).write_text(json.dumps(asdict(description)))
    for file in part.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(part)
    part.rename(folder)
    sync_folder(folder.parent)


def _names(kind: Kind) -> tuple[str, ...]:
    return (_CODES, _FACTORS, _PAGES) if kind == "scan" else (_INDEX, _PAGES)


def _write_codes(batches: Iterable[tuple[np.ndarray, np.ndarray]], dim: int, part: Path) -> np.ndarray:
    """The page id of each pooled vector."""
    pages = [np.empty(0, dtype=np.int64)]
    with (part / _CODES).open("wb") as codes, (part / _FACTORS).open("wb") as factors:
        for pooled_G_D, page_of_G in batches:
            _require_fit(pooled_G_D, page_of_G, dim)
            encoded = CODEC.encode(pooled_G_D)
            codes.write(encoded.codes.data)
            factors.write(encoded.factors.data)
            pages.append(np.asarray(page_of_G, dtype=np.int64))
    return np.concatenate(pages)


def _write_faiss(batches: Iterable[tuple[np.ndarray, np.ndarray]], dim: int, kind: Kind, part: Path) -> np.ndarray:
    """The page id of each pooled vector."""
    faiss = load_faiss()
    page_of_G = _spool(batches, dim, part / _SPOOL)
    width = padded_width(dim)
    index = _empty_index(faiss, kind, width, len(page_of_G))
    if not index.is_trained:
        index.train(_sample(part / _SPOOL, width, len(page_of_G), _TRAINED_PER_LIST * _lists(len(page_of_G))))
    for chunk_N_W in _chunks(part / _SPOOL, width):
        index.add(chunk_N_W)
    (part / _SPOOL).unlink()
    faiss.write_index(index, str(part / _INDEX))
    return page_of_G


def _require_fit(pooled_G_D: np.ndarray, page_of_G: np.ndarray, dim: int) -> None:
    if pooled_G_D.shape != (len(page_of_G), dim):
        raise ValueError(f"pooled vectors {pooled_G_D.shape} with {len(page_of_G)} page ids; give (g, {dim}) and (g,).")


def read_candidates(folder: Path) -> tuple[Description, Any, np.ndarray]:
    """What was written, the pooled vectors memory-mapped (`EncodedVectors` or a FAISS index), and the (G,) page id of each.

    Every file is hashed before it is believed, because FAISS follows the numbers in a damaged one wherever they lead; that
    reads the index once, at about a gigabyte a second.

    Raises:
        IndexProblem: the folder does not hold a candidate index of this format, or a file of it is damaged.
        MissingExtra: faiss is not installed.
    """
    description = _description(folder)
    for fault in _faults(folder, description):
        raise IndexProblem(f"{fault}; {_FIX}")
    page_of_G = np.load(folder / _PAGES)
    if description.kind == "scan":
        shape = (description.vectors, CODEC.code_columns(description.dim))
        codes = np.memmap(folder / _CODES, np.uint8, "r", shape=shape)
        return description, EncodedVectors(codes, np.memmap(folder / _FACTORS, "<f2", "r")), page_of_G
    faiss = load_faiss()
    return description, faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP_IFC), page_of_G


def verify_candidates(folder: Path) -> list[str]:
    """One sentence per fault, empty when all is well."""
    try:
        return [f"{fault}; {_FIX}" for fault in _faults(folder, _description(folder))]
    except IndexProblem as problem:
        return [str(problem)]


def _description(folder: Path) -> Description:
    try:
        values = json.loads((folder / _DESCRIPTION).read_bytes())
    except (OSError, ValueError) as error:
        raise IndexProblem(f"{folder} cannot be read as a candidate index ({error}); {_FIX}") from None
    if not isinstance(values, dict) or set(values) != {f.name for f in fields(Description)} or values["format"] != FORMAT:
        raise IndexProblem(f"{folder} is not a candidate index of format {FORMAT}; {_FIX}")
    return Description(**values)


def _faults(folder: Path, description: Description) -> Iterator[str]:
    for name in _names(description.kind):
        path = folder / name
        if not path.is_file():
            yield f"{path} is missing"
        elif path.stat().st_size != description.bytes[name]:
            yield f"{path} holds {path.stat().st_size:,} bytes where {description.bytes[name]:,} were written"
        elif file_sha256(path) != description.sha256[name]:
            yield f"{path} is not what was written (its sha256 differs)"


def _lists(vectors: int) -> int:
    """How many inverted lists so many vectors get."""
    return max(1, min(round(4 * math.sqrt(vectors)), vectors // _TRAINED_PER_LIST))


def _empty_index(faiss: Any, kind: Kind, dim: int, vectors: int) -> Any:
    lists = _lists(vectors)
    factory = {"flat": "SQfp16", "ivf": f"IVF{lists},SQ8", "rabitq": f"IVF{lists},RaBitQ4", "hnsw": "HNSW32,SQ8"}[kind]
    return faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)


def _spool(batches: Iterable[tuple[np.ndarray, np.ndarray]], dim: int, path: Path) -> np.ndarray:
    """Write all vectors as float16, one after another; the page id of each."""
    pages = [np.empty(0, dtype=np.int64)]
    with path.open("wb") as file:
        for pooled_G_D, page_of_G in batches:
            _require_fit(pooled_G_D, page_of_G, dim)
            filled_G_W = np.zeros((len(pooled_G_D), padded_width(dim)), dtype="<f2")
            filled_G_W[:, :dim] = pooled_G_D
            file.write(filled_G_W.data)
            pages.append(np.asarray(page_of_G, dtype=np.int64))
    return np.concatenate(pages)


def _chunks(path: Path, dim: int) -> Iterator[np.ndarray]:
    """The spooled vectors, some at a time, as float32."""
    with path.open("rb") as file:
        while len(values := np.fromfile(file, dtype="<f2", count=_CHUNK * dim)):
            yield values.reshape(-1, dim).astype(np.float32)


def _sample(path: Path, dim: int, vectors: int, count: int) -> np.ndarray:
    """(count, dim) float32: spooled vectors chosen evenly at random, the same ones every time; all if there are no more."""
    if vectors <= count:
        return np.concatenate(list(_chunks(path, dim)))
    chosen = np.sort(np.random.default_rng(0).choice(vectors, count, replace=False))
    parts = []
    for number, chunk_N_D in enumerate(_chunks(path, dim)):
        first, last = np.searchsorted(chosen, [number * _CHUNK, number * _CHUNK + len(chunk_N_D)])
        parts.append(chunk_N_D[chosen[first:last] - number * _CHUNK])
    return np.concatenate(parts)
