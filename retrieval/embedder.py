"""The interface of every page embedder, and the one place that knows them by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from colsearcher.indexes.errors import ModelProblem
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.page import Page

DEFAULT_EMBEDDER = "minilm"


class PageEmbedder(Protocol):
    """Turns pages and queries into vectors of the same space.

    Attributes:
        name: what `load_embedder` takes.
        revision: hash of the weights and of every setting that shapes the vectors; stored in the index's manifest.
        dim: length of a vector.
        block_rows: rows of a block of a passage, 0 where a page is scored as a whole (`colsearcher.indexes.maxsim`).
        device: where it runs, for the line that says what was chosen.
    """

    name: str
    revision: str
    dim: int
    block_rows: int

    @property
    def device(self) -> str: ...

    def embed_pages(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        """One embedding per page, in order. A page without content gives one without vectors."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> list[QueryEmbedding]:
        """One embedding per text, in order.

        Raises:
            UserError: a text has nothing to search for.
        """
        ...


def _minilm() -> PageEmbedder:
    from colsearcher.retrieval.minilm import MiniLMEmbedder

    return MiniLMEmbedder()


EMBEDDERS: dict[str, Callable[[], PageEmbedder]] = {"minilm": _minilm}


def load_embedder(name: str = DEFAULT_EMBEDDER) -> PageEmbedder:
    """Load an embedder by name.

    Raises:
        ModelProblem: no such embedder, or its weights are missing or not the pinned ones.
    """
    if name not in EMBEDDERS:
        raise ModelProblem(f"There is no embedder «{name}»; choose one of: {', '.join(sorted(EMBEDDERS))}.")
    return EMBEDDERS[name]()
