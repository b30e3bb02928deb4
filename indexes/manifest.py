"""What made an index. Written once; opening it with anything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from colsearcher.indexes.codecs import load_codec
from colsearcher.indexes.errors import IndexProblem
from colsearcher.indexes.page_pooling import PagePooling
from colsearcher.indexes.segment import Storage

FORMAT = 3
DEFAULT_CODEC = "4bit"
PROJECTION_FILE = "projection.npz"
"""In the folder of an index whose manifest names a projection."""


@dataclass(frozen=True)
class Manifest:
    """The identity of an index.

    Attributes:
        embedder: name that `load_embedder` takes.
        revision: hash of the embedder's weights and of the settings that shape its vectors.
        dim: length of a vector.
        block_rows: rows of a block of a passage, 0 where a page is one passage (`maxsim`); pooled rows have no order, so 0.
        renderer: "pdfium" or "poppler".
        ocr: "auto", "never" or "always".
        ocr_model: name of the OCR models, empty where OCR is "never".
        created: ISO time, UTC.
        codec: how vectors are stored, a name in `codecs.CODECS`.
        originals: whether float16 vectors are kept beside codes, to score the best pages again exactly.
        pool: how pages are pooled before they are stored, such as "cluster:3"; empty where every vector is stored.
        projection: sha256 of the projection that all vectors went through; empty where they are the embedder's own.
        format: version of the files' layout.
    """

    embedder: str
    revision: str
    dim: int
    block_rows: int
    renderer: str
    ocr: str
    ocr_model: str
    created: str
    codec: str = DEFAULT_CODEC
    originals: bool = True
    pool: str = ""
    projection: str = ""
    format: int = FORMAT

    @classmethod
    def from_rows(cls, rows: dict[str, str]) -> Self:
        """Read the key-value rows of the catalog.

        Raises:
            IndexProblem: the index was written by another version of the format.
        """
        if rows.get("format") != str(FORMAT):
            raise IndexProblem(
                f"The index has format {rows.get('format')}, this version of ColSearcher reads {FORMAT}; "
                "make a new index with `colsearcher index add`."
            )
        read: dict[str, Callable[[str], Any]] = {"int": int, "bool": lambda value: value == "True", "str": str}
        return cls(**{f.name: read[str(f.type)](rows[f.name]) for f in fields(cls)})

    @property
    def storage(self) -> Storage:
        """
        Raises:
            UserError: there is no such codec.
        """
        return Storage(self.dim, load_codec(self.codec), self.originals)

    @property
    def pooling(self) -> PagePooling | None:
        """
        Raises:
            UserError: there is no such way of pooling.
        """
        return PagePooling.parse(self.pool)

    def rows(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}

    def require_embedder(self, name: str, revision: str) -> None:
        """Refuse another embedder than the one that made the index.

        Raises:
            IndexProblem: name or revision differ.
        """
        if name != self.embedder:
            raise IndexProblem(
                f"The index was made by embedder {self.embedder}, not by {name}; "
                f"use --embedder {self.embedder}, or make a second index in another folder."
            )
        if revision != self.revision:
            raise IndexProblem(
                f"The index was made by {name} at revision {self.revision[:12]}, the one installed is {revision[:12]}, "
                "so their vectors do not match; install that revision or make the index again in another folder."
            )
