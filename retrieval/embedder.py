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
        picture_pixels: the most pixels of a page's picture that it looks at, 0 where it reads words only.
    """

    name: str
    revision: str
    dim: int
    block_rows: int

    @property
    def device(self) -> str: ...

    @property
    def picture_pixels(self) -> int: ...

    def embed_pages(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        """One embedding per page, in order. A page without content gives one without vectors.

        Several threads may call it at once.
        """
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


def load_embedder(name: str = DEFAULT_EMBEDDER, *, device: str = "auto", dtype: str = "auto") -> PageEmbedder:
    """Load an embedder: one of `EMBEDDERS`, or a visual checkpoint by folder or hub id.

    Args:
        name: "minilm", "path/to/checkpoint" or "vidore/colqwen2.5-v0.2", the latter two with `@REVISION` and
            `?max_pixels=N` where wanted.
        device: where a visual model runs; "auto" for a GPU where there is one.
        dtype: "fp32", "bf16", "fp16", or "auto"; for visual models.

    Raises:
        ModelProblem: no such embedder, or its weights are missing or not the pinned ones.
    """
    if name in EMBEDDERS:
        return EMBEDDERS[name]()
    from colsearcher.retrieval.visual.loading import load_checkpoint, may_be_checkpoint

    if not may_be_checkpoint(name):
        raise ModelProblem(
            f"There is no embedder «{name}»; choose {', '.join(sorted(EMBEDDERS))}, the folder of a checkpoint, "
            "or a hub id such as vidore/colqwen2.5-v0.2."
        )
    from colsearcher.retrieval.visual.embedder import VisualEmbedder

    return VisualEmbedder(load_checkpoint(name, device=device, dtype=dtype))


def canonical_name(name: str) -> str:
    """The name that an index remembers: of a folder, its absolute path."""
    if name in EMBEDDERS:
        return name
    from colsearcher.retrieval.visual.loading import CheckpointName

    return str(CheckpointName.parse(name))
