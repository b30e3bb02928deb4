"""What goes into an index and what comes out: frozen records of arrays and ids, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from colsearcher.indexes.address import Address


@dataclass(frozen=True)
class Places:
    """Where on a page its vectors are from.

    Attributes:
        boxes: (m, 4) float32, patches or words in the order in which the page was read, in fractions of the page.
        owner: (m,) int, the row of the vector that stands for each of them.
    """

    boxes: np.ndarray
    owner: np.ndarray

    def __post_init__(self) -> None:
        m = len(self.owner)
        if self.boxes.shape != (m, 4) or self.owner.shape != (m,):
            raise ValueError(f"boxes {self.boxes.shape} and owner {self.owner.shape} do not describe the same places.")


@dataclass(frozen=True)
class PageEmbedding:
    """The vectors of one page.

    Attributes:
        vectors: (n, dim) float, L2-normalised rows, padding removed; n may be 0 for a page without content.
        boxes: (n, 4) float32, the patch or word that each vector stands for, x0, y0, x1, y1 in fractions of the page; of a
            pooled vector the box around all of them.
        special: (n,) bool, True for vectors of special tokens (no place on the page: their box is the whole page).
        places: of a pooled page the patches or words that its vectors stand for, None where each has its own.
    """

    vectors: np.ndarray
    boxes: np.ndarray
    special: np.ndarray
    places: Places | None = None

    def __post_init__(self) -> None:
        n = len(self.vectors)
        if self.vectors.ndim != 2 or self.boxes.shape != (n, 4) or self.special.shape != (n,):
            raise ValueError(
                f"vectors {self.vectors.shape}, boxes {self.boxes.shape} and special {self.special.shape} do not "
                "describe the same vectors; give (n, dim), (n, 4) and (n,)."
            )
        if (
            self.places is not None
            and len(self.places.owner)
            and not 0 <= self.places.owner.min() <= self.places.owner.max() < n
        ):
            raise ValueError(f"places are owned by rows up to {self.places.owner.max()} of {n}.")

    def standing(self) -> Places:
        """Every patch or word of the page, in the order in which it was read, with the vector that stands for it.

        >>> page = PageEmbedding(np.eye(3), np.tile([0, 0, 1, 1], (3, 1)), np.array([True, False, False]))
        >>> page.standing().owner.tolist()
        [1, 2]
        """
        if self.places is not None:
            return self.places
        owner = np.flatnonzero(~self.special)
        return Places(self.boxes[owner], owner)


@dataclass(frozen=True)
class DocumentRecord:
    """One source file: its stable id, where it lies, what it held when it was read."""

    document: str
    path: str
    sha256: str
    pages: int
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class PageRecord:
    """One page, ready to be stored.

    Attributes:
        document: id of the document, as in its `DocumentRecord`.
        page: 1-based number.
        embedding: the page's vectors.
        text: the page's words joined by single spaces.
        word_boxes: (words, 4) float, one box per word of `text`, in fractions of the page.
        size: width and height in points.
        word_source: "text", "ocr" or "none".
        ocr_reason: why the page was given to OCR, else None.
        blank: nothing is on the page.
        problem: why the page could not be read, else None; such a page holds no vectors and is never a hit.
    """

    document: str
    page: int
    embedding: PageEmbedding
    text: str
    word_boxes: np.ndarray
    size: tuple[float, float]
    word_source: str
    ocr_reason: str | None = None
    blank: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class StoredPage:
    """A page as the index gives it back: everything but its vectors."""

    document: str
    page: int
    path: str
    sha256: str
    text: str
    word_boxes: np.ndarray
    size: tuple[float, float]
    word_source: str
    ocr_reason: str | None
    blank: bool
    problem: str | None
    metadata: Mapping[str, object]

    @property
    def address(self) -> Address:
        return Address(self.document, self.page)


@dataclass(frozen=True)
class QueryEmbedding:
    """The vectors of one query.

    Attributes:
        vectors: (t, dim) float32, L2-normalised rows, padding removed.
        weights: (t,) float32, what each vector counts for before the rarity of its word; 0 leaves it out.
        words: the word that each vector stands for, lower case; empty where there is none (a special token, a patch).
        special: (t,) bool, True for vectors of special tokens; they count in the score and not in heat maps.
        text: the query itself, for the words that a lexical score matches.
        by_rarity: a vector counts the more, the rarer its word is in the corpus; else by `weights` alone.
    """

    vectors: np.ndarray
    weights: np.ndarray
    words: tuple[str, ...]
    special: np.ndarray
    text: str
    by_rarity: bool = True


@dataclass(frozen=True)
class Hit:
    """One ranked page. `score` is the sum of the named `parts`."""

    document: str
    page: int
    score: float
    metadata: Mapping[str, object] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        return Address(self.document, self.page)


@dataclass(frozen=True)
class SearchResult:
    """The hits of one query, best first, with how they were found and the milliseconds each step took."""

    hits: tuple[Hit, ...]
    plan: Mapping[str, object]
    timing_ms: Mapping[str, float]
