"""What a way of storing pages costs and keeps: vectors and bytes of a page, and the ranking of questions with known pages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import SearchResult
from colsearcher.retrieval.projection import SAMPLE_ROWS, ProjectedEmbedder, Projection
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.index_copies import copy_index, require_originals
from colsearcher.training.question import Question
from colsearcher.training.retrieval_evaluation import require_gold
from colsearcher.training.retrieval_metrics import summarise

POOLINGS = ("cluster:2", "cluster:3", "spatial:3", "cluster:6")
_DEPTH = 10
_QUESTIONS = 16


@dataclass(frozen=True)
class StorageScores:
    """One way of storing pages.

    Attributes:
        vectors_per_page: the mean over the index.
        bytes_per_page: of the segment files and, of pooled pages, the places.
        ndcg, recall_1, recall_5: nDCG@5, recall@1 and recall@5 of the default ranking.
        late_ndcg: nDCG@5 of late interaction alone.
    """

    name: str
    vectors_per_page: float
    bytes_per_page: int
    ndcg: float
    recall_1: float
    recall_5: float
    late_ndcg: float

    def row(self) -> dict[str, object]:
        """The scores under the names that metrics have everywhere."""
        return {
            "name": self.name,
            "vectors_per_page": self.vectors_per_page,
            "bytes_per_page": self.bytes_per_page,
            "ndcg@5": self.ndcg,
            "recall@1": self.recall_1,
            "recall@5": self.recall_5,
            "late_ndcg@5": self.late_ndcg,
        }


def score_storage(name: str, searcher: Searcher, questions: Sequence[Question]) -> StorageScores:
    """Ask the questions that have gold pages.

    Raises:
        UserError: none has, or a gold page is not in the index.
    """
    asked = [question for question in questions if question.evidence]
    require_gold(asked, set(searcher.index.pages()), searcher.index.folder)
    gold = [{(place.document, place.page) for place in question.evidence} for question in asked]
    default, late = (
        summarise([([(hit.document, hit.page) for hit in r.hits], g) for r, g in zip(results, gold, strict=True)])
        for results in (_ask(searcher, asked, late=late) for late in (False, True))
    )
    return StorageScores(
        name,
        *page_costs(searcher.page_index),
        default["ndcg@5"],
        default["recall@1"],
        default["recall@5"],
        late["ndcg@5"],
    )


def page_costs(index: PageIndex) -> tuple[float, int]:
    """Vectors and stored bytes of a page, on average."""
    info = {name: value for name, value in index.info().items() if isinstance(value, int)}
    pages = max(1, info["pages"])
    return round(info["vectors"] / pages, 1), round((info["vector_bytes"] + info["place_bytes"]) / pages)


def evaluate_pooling(
    searcher: Searcher,
    questions: Sequence[Question],
    *,
    poolings: Sequence[str] = POOLINGS,
    tell: Callable[[str], None] = lambda line: None,
) -> list[StorageScores]:
    """Store the pages of an index pooled in each way, in a temporary folder, and ask the questions of every copy.

    The first row is the index as it is. Where it scores pages by their passages, the second has the same vectors and scores
    pages as a whole, as pooled ones have to be: what lies between the two is not the pooling's doing.

    Raises:
        UserError: the index is pooled already or keeps codes alone, no question has gold pages, or one is not in the index.
    """
    index = searcher.page_index
    manifest = index.manifest
    if manifest.pool:
        raise UserError(f"The index at {index.folder} is pooled already ({manifest.pool}); make one without --pool to compare.")
    require_originals(index, "ways of pooling")
    tell(f"asking {len(questions)} questions of {len(index.pages()):,} pages as they are")
    scores = [score_storage("none", searcher, questions)]
    whole = {"none, whole pages": ""} if manifest.block_rows else {}
    for name, pool in (whole | {pool: pool for pool in poolings}).items():
        tell(f"the same with {name}")
        scores.append(_of_copy(name, searcher, questions, replace(manifest, pool=pool, block_rows=0)))
    return scores


def fit_projection(index: PageIndex, dim: int) -> tuple[Projection, int]:
    """A projection of an index's vectors to `dim` dimensions, and how many vectors it was made from.

    Raises:
        UserError: the index is projected already or holds too little, or it has no more than `dim` dimensions.
    """
    manifest = index.manifest
    if manifest.projection:
        raise UserError(
            f"The vectors of the index at {index.folder} are projected already; fit on one made without --projection."
        )
    if not 1 <= dim < manifest.dim:
        raise UserError(f"--dim is {dim}; the index has {manifest.dim} dimensions: give 1 to {manifest.dim - 1}.")
    sampled = index.sample_vectors(SAMPLE_ROWS)
    return Projection.fit(sampled, dim, embedder=manifest.embedder, revision=manifest.revision), len(sampled)


def evaluate_projection(
    searcher: Searcher,
    questions: Sequence[Question],
    projection: Projection,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[StorageScores, StorageScores]:
    """Ask the questions of an index before and after its pages are projected, the latter in a temporary folder.

    Raises:
        UserError: the index keeps codes alone, no question has gold pages, or one is not in the index.
    """
    require_originals(searcher.page_index, "projections")
    manifest = searcher.index.manifest
    tell(f"asking {len(questions)} questions of {len(searcher.index.pages()):,} pages as they are")
    before = score_storage(f"{manifest.dim} dimensions", searcher, questions)
    tell(f"the same with {projection.dim} dimensions")
    embedder = ProjectedEmbedder(searcher.embedder, projection)
    projected = replace(manifest, dim=projection.dim, revision=embedder.revision, projection=projection.sha256)
    after = _of_copy(f"{projection.dim} dimensions", Searcher(searcher.index, embedder), questions, projected, projection)
    return before, after


def _of_copy(
    name: str, searcher: Searcher, questions: Sequence[Question], manifest: Manifest, projection: Projection | None = None
) -> StorageScores:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "index"
        with copy_index(
            searcher.page_index,
            place,
            manifest,
            lambda page: replace(page, vectors=projection.apply(page.vectors)) if projection else page,
        ) as copy:
            return score_storage(name, Searcher(copy, searcher.embedder), questions)


def _ask(searcher: Searcher, asked: Sequence[Question], *, late: bool) -> list[SearchResult]:
    results: list[SearchResult] = []
    for first in range(0, len(asked), _QUESTIONS):
        texts = [question.text for question in asked[first : first + _QUESTIONS]]
        results += searcher.search(texts, _DEPTH, ranking="late" if late else "default")
    return results
