"""Shorter vectors: the leading directions of an embedder's vectors, kept in a file, and the embedder behind them.

The directions are the eigenvectors of the second moments of stored vectors (principal components without centring, so that
inner products keep their meaning). Pages and queries are projected alike and brought to length 1 again. A projection belongs
to one embedder at one revision; an index that uses one keeps a copy of the file and its sha256.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.manifest import PROJECTION_FILE
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.indexes.segment import sync_folder
from colsearcher.indexes.shards import AnyIndex
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.page import Page

SAMPLE_ROWS = 200_000
_FIT = "make one with `colsearcher index fit-projection`"


@dataclass(frozen=True)
class Projection:
    """A map to fewer dimensions.

    Attributes:
        matrix_D_C: (D, C) float32, orthonormal columns, the leading direction first.
        embedder: name of the embedder whose vectors it was made from.
        revision: that embedder's.
        kept: the share of the second moment of those vectors that is left, 0 to 1.
        data: the file.
    """

    matrix_D_C: np.ndarray
    embedder: str
    revision: str
    kept: float
    data: bytes

    @classmethod
    def fit(cls, vectors_N_D: np.ndarray, dim: int, *, embedder: str, revision: str) -> Self:
        """The `dim` leading directions of (n, D) vectors.

        Raises:
            UserError: `dim` is not below D, or there are fewer vectors than that.

        >>> vectors = np.array([[0.8, 0.6, 0], [0.8, -0.6, 0], [1, 0, 0]], dtype=np.float32)
        >>> projection = Projection.fit(vectors, 1, embedder="none", revision="0")
        >>> abs(projection.matrix_D_C.T.round(6)).tolist(), round(projection.kept, 2)      # (0.64 + 0.64 + 1) / 3
        ([[1.0, 0.0, 0.0]], 0.76)
        """
        n, full = vectors_N_D.shape
        if not 1 <= dim < full:
            raise UserError(f"Vectors of {full} dimensions cannot be projected to {dim}; give 1 to {full - 1}.")
        if n < dim:
            raise UserError(f"{n} vectors do not span {dim} dimensions; fit on an index with more pages.")
        vectors = vectors_N_D.astype(np.float32, copy=False)
        moments, directions = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
        leading = directions[:, : -dim - 1 : -1]
        signs = np.sign(leading[np.abs(leading).argmax(0), np.arange(dim)])  # an eigenvector has no sign of its own
        matrix, kept = (leading * signs).astype("<f4"), float(moments[-dim:].sum() / moments.sum())
        file = io.BytesIO()
        np.savez(file, matrix=matrix, embedder=embedder, revision=revision, kept=kept)
        return cls(matrix, embedder, revision, kept, file.getvalue())

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            UserError: the file cannot be read, or is no projection.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); name the file of a projection, or {_FIT}.") from None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                matrix, kept = file["matrix"], float(file["kept"])
                embedder, revision = str(file["embedder"]), str(file["revision"])
            well_made = matrix.ndim == 2 and matrix.dtype == np.float32 and bool(np.isfinite(matrix).all())
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile):
            well_made = False
        if not well_made:
            raise UserError(f"{path} is not the file of a projection; {_FIT}.")
        return cls(matrix, embedder, revision, kept, data)

    @property
    def dim(self) -> int:
        return self.matrix_D_C.shape[1]

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def apply(self, vectors_N_D: np.ndarray) -> np.ndarray:
        """(n, C) float32 rows of length 1; a vector of which nothing is left stays 0."""
        projected = vectors_N_D.astype(np.float32) @ self.matrix_D_C
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)

    def write(self, path: Path) -> None:
        """Write the file so that it is there whole or not at all.

        Raises:
            UserError: the place cannot be written.
        """
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                file.write(self.data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise UserError(f"{path} cannot be written ({error.strerror}); name a place that you may write.") from None
        sync_folder(path.parent)


class ProjectedEmbedder:
    """A `PageEmbedder` whose vectors have gone through a projection.

    Raises:
        UserError: the projection was made for another embedder, revision or dimension.
    """

    def __init__(self, inner: PageEmbedder, projection: Projection) -> None:
        made_for = f"The projection was made for embedder {projection.embedder}"
        fix = "fit one on an index of this embedder with `colsearcher index fit-projection`"
        if projection.embedder != inner.name:
            raise UserError(f"{made_for}, not for {inner.name}; use --embedder {projection.embedder}, or {fix}.")
        if projection.revision != inner.revision:
            raise UserError(f"{made_for} at revision {projection.revision[:12]}, not {inner.revision[:12]}; {fix}.")
        if len(projection.matrix_D_C) != inner.dim:
            raise UserError(f"{made_for} with {len(projection.matrix_D_C)} dimensions, not {inner.dim}; {fix}.")
        self.inner = inner
        self.projection = projection
        self.name = inner.name
        self.revision = hashlib.sha256(f"{inner.revision} {projection.sha256}".encode()).hexdigest()
        self.dim = projection.dim
        self.block_rows = inner.block_rows

    @property
    def device(self) -> str:
        return self.inner.device

    @property
    def picture_pixels(self) -> int:
        return self.inner.picture_pixels

    def embed_pages(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        embedded = self.inner.embed_pages(pages)
        return [replace(page, vectors=self.projection.apply(page.vectors)) for page in embedded]

    def embed_queries(self, texts: Sequence[str]) -> list[QueryEmbedding]:
        embedded = self.inner.embed_queries(texts)
        return [replace(query, vectors=self.projection.apply(query.vectors)) for query in embedded]


def embedder_of(index: AnyIndex, embedder: PageEmbedder) -> PageEmbedder:
    """An embedder as an index needs it: behind the index's own projection, where it has one.

    Raises:
        IndexProblem: another embedder made the index, or its projection is not the one that it was made with.
    """
    manifest = index.manifest
    if not manifest.projection:
        manifest.require_embedder(embedder.name, embedder.revision)
        return embedder
    manifest.require_embedder(embedder.name, manifest.revision)
    # An index of shards has no projection of its own; those of its shards are one and the same.
    own = index.folder / PROJECTION_FILE
    file = next((f for f in (own, *sorted(index.folder.glob(f"*/{PROJECTION_FILE}"))) if f.is_file()), own)
    if not file.is_file() or (projection := Projection.read(file)).sha256 != manifest.projection:
        raise IndexProblem(
            f"{file} is missing or not the projection that the index was made with; put the file with sha256 "
            f"{manifest.projection[:12]}… there again, or make the index again in another folder."
        )
    projected = ProjectedEmbedder(embedder, projection)
    manifest.require_embedder(projected.name, projected.revision)
    return projected


def embedder_for(folder: Path | None, embedder: PageEmbedder, wanted: Path | None) -> PageEmbedder:
    """An embedder to add pages with: that of the index at a folder, or, where there is none yet, behind the wanted projection.

    Raises:
        UserError: the wanted projection is not for this embedder.
        IndexProblem: the index was made with another projection, or by another embedder.
    """
    projection = Projection.read(wanted) if wanted else None
    if folder is None or not PageIndex.exists(folder):
        return ProjectedEmbedder(embedder, projection) if projection else embedder
    with PageIndex.open(folder) as index:
        made_with = index.manifest.projection
        if projection and projection.sha256 != made_with:
            made = f"a projection of sha256 {made_with[:12]}…" if made_with else "no projection"
            raise IndexProblem(
                f"The index at {folder} was made with {made}, not with {wanted} ({projection.sha256[:12]}…); "
                "leave the option out, or make a second index in another folder."
            )
        return embedder_of(index, embedder)


def keep_projection(folder: Path, embedder: PageEmbedder) -> str:
    """Copy an embedder's projection to where an index will be made. Returns its sha256, empty where there is none.

    Raises:
        UserError: the folder cannot be written.
    """
    if not isinstance(embedder, ProjectedEmbedder):
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); name a folder that you may write.") from None
    embedder.projection.write(folder / PROJECTION_FILE)
    return embedder.projection.sha256
