"""Ask an index in words: the embedder that made it turns the question into vectors, the index ranks the pages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from colsearcher.indexes.address import Address, Box
from colsearcher.indexes.errors import FileProblem, UserError
from colsearcher.indexes.maxsim import best_passage
from colsearcher.indexes.page_index import DEFAULT_RECALL, PageIndex
from colsearcher.indexes.ranking import Ranking
from colsearcher.indexes.records import QueryEmbedding, SearchResult
from colsearcher.indexes.shards import AnyIndex, open_index
from colsearcher.retrieval.corpus import IMAGE_SUFFIXES, content_hash
from colsearcher.retrieval.embedder import PageEmbedder, canonical_name, load_embedder
from colsearcher.retrieval.heat_map import Evidence, crop, draw_heat_map, evidence, only_words, region
from colsearcher.retrieval.page import PageImage
from colsearcher.retrieval.projection import embedder_of
from colsearcher.retrieval.render import draw

PICTURE_SIDE = 1600


@dataclass(frozen=True)
class Region:
    """The part of a page that a question matched best: where it is, and its words (empty for a model that reads pixels)."""

    address: Address
    text: str


@dataclass(frozen=True)
class Searcher:
    """An index with the embedder that made it. Close the index when done, or use `Searcher.open` in a `with`."""

    index: AnyIndex
    embedder: PageEmbedder

    @classmethod
    def open(cls, folder: Path, embedder: str | None = None, *, device: str = "auto") -> Self:
        """Open an index and load its embedder.

        Args:
            embedder: name of the embedder, None for the one that the manifest names.
            device: what searches compute on; see `PageIndex.open`.

        Raises:
            IndexProblem: there is no index, or another embedder or revision made it.
            ModelProblem: the embedder's weights are missing.
        """
        index = open_index(folder, device=device)
        if embedder is not None:
            index.manifest.require_embedder(canonical_name(embedder), index.manifest.revision)
        loaded = load_embedder(index.manifest.embedder, device=device)
        return cls(index, embedder_of(index, loaded))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    @property
    def page_index(self) -> PageIndex:
        """The index, for what needs one in one piece.

        Raises:
            UserError: it is one of shards.
        """
        if not isinstance(self.index, PageIndex):
            raise UserError(f"{self.index.folder} holds shards, and this needs an index of one piece; name one of its folders.")
        return self.index

    def search(
        self,
        questions: Sequence[str],
        k: int = 5,
        *,
        filter: str | None = None,
        ranking: Ranking = "default",
        recall: float = DEFAULT_RECALL,
    ) -> list[SearchResult]:
        """Rank the pages for each question; see `PageIndex.search`."""
        started = time.perf_counter()
        queries = self.embedder.embed_queries(questions)
        embed_ms = round((time.perf_counter() - started) * 1000, 2)
        results = self.index.search(queries, k, filter=filter, ranking=ranking, recall=recall)
        return [
            replace(
                result, timing_ms={"embed": embed_ms, **result.timing_ms, "total": embed_ms + sum(result.timing_ms.values())}
            )
            for result in results
        ]

    def regions(self, question: str, places: Sequence[Address]) -> list[Region]:
        """For each page, the part of it that gave it its score, as an address with a box and as text."""
        query = self.embedder.embed_queries([question])[0]
        weights = self.index.query_weights(query)
        return [self._region(query, weights, place) for place in places]

    def _region(self, query: QueryEmbedding, weights: np.ndarray, place: Address) -> Region:
        embedding = self.index.embedding(place.document, place.page)
        page = self.index.page(place.document, place.page)
        if self.embedder.block_rows:
            places = embedding.standing()
            # The order of reading outlives pooling in the places, so a page that is scored as a whole still has passages.
            rows = best_passage(embedding.vectors[places.owner], query.vectors, weights, self.embedder.block_rows)
            boxes = places.boxes[rows]
            inside = {box.tobytes() for box in boxes}
            words = [word for word, box in zip(page.text.split(), page.word_boxes, strict=True) if box.tobytes() in inside]
            x0, y0 = boxes[:, :2].min(0).tolist()
            x1, y1 = boxes[:, 2:].max(0).tolist()
            box: Box | None = (round(x0, 4), round(y0, 4), round(x1, 4), round(y1, 4))
        else:
            box = region(embedding, query)
            x0, y0, x1, y1 = box or (0.0, 0.0, 1.0, 1.0)
            x, y = (page.word_boxes[:, :2] + page.word_boxes[:, 2:]).T / 2
            within = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
            words = [word for word, here in zip(page.text.split(), within, strict=True) if here]
        return Region(Address(place.document, place.page, box), " ".join(words))

    def evidence(self, question: str, address: Address, count: int = 5) -> list[Evidence]:
        """Where on the page each word of the question is matched best, the strongest first."""
        query = self.embedder.embed_queries([question])[0]
        return evidence(address, self.index.embedding(address.document, address.page), query, count)

    def picture(
        self, address: Address, *, question: str | None = None, word: str | None = None, side: int = PICTURE_SIDE
    ) -> Image.Image:
        """The page as a picture with its longer side at most `side` pixels, cut to the address's box if it has one.

        Args:
            question: draw the heat map of this question over the page.
            word: of the question's words draw what this one matches.

        Raises:
            FileProblem: the source file is gone or has changed since it was indexed.
            UserError: the question has no such word, or the page has one vector, which stands nowhere.
        """
        page = self.index.page(address.document, address.page)
        path = Path(page.path)
        if not path.is_file():
            raise FileProblem(
                f"«{address.document}» was indexed from {path}, which is not there any more; "
                "put it back, or add it again from where it is."
            )
        if content_hash(path) != page.sha256:
            raise FileProblem(f"{path} has changed since it was indexed; run `colsearcher index add` on it again.")
        renderer = "image" if path.suffix.lower() in IMAGE_SUFFIXES else self.index.manifest.renderer
        picture = draw(PageImage(path, address.page, renderer), max_side=side)  # type: ignore[arg-type]
        if question is not None:
            query = self.embedder.embed_queries([question])[0]
            embedding = self.index.embedding(address.document, address.page)
            if len(embedding.vectors) and not len(embedding.standing().owner):
                raise UserError(
                    f"{self.embedder.name} makes one vector of a page, so no place on it can be shown; leave --query out."
                )
            picture = draw_heat_map(picture, embedding, only_words(query, word) if word else query)
        return crop(picture, address)
