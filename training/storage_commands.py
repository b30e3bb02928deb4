"""`colsearcher index fit-projection` and `colsearcher bench pooling`: fewer and shorter vectors, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import show, show_json, tell

if TYPE_CHECKING:
    from colsearcher.training.storage_scores import StorageScores


@dataclass(frozen=True)
class FitProjection:
    """Find the directions that the vectors of an index use most, for `colsearcher index add --projection`. Says what share of
    their second moment is kept and, with --qa, what the ranking loses; that is measured on a copy, the index is not changed."""

    index: Path = option("the index folder, of the same kind of pages and made without --projection", metavar="DIR")
    dim: int = option("how many dimensions to keep", default=128, metavar="N", within=COUNT)
    output: Path = option("the file to write", default=Path("projection.npz"), short="-o", metavar="NPZ")
    qa: Path | None = option("JSONL of questions with evidence pages", default=None, metavar="QA.jsonl")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.indexes.page_index import PageIndex
        from colsearcher.training.questions import load_questions
        from colsearcher.training.storage_scores import evaluate_projection, fit_projection

        questions = load_questions(self.qa, self.limit) if self.qa else []
        with PageIndex.open(self.index) as index:
            full = index.manifest.dim
            projection, vectors = fit_projection(index, self.dim)
        projection.write(self.output)
        scores: Sequence[StorageScores] = ()
        if self.qa:
            from colsearcher.retrieval.searcher import Searcher

            with Searcher.open(self.index) as searcher:
                scores = evaluate_projection(searcher, questions, projection, tell=tell)
        if self.json:
            fitted = {"output": str(self.output), "from_dim": full, "dim": self.dim, "vectors": vectors}
            show_json(
                {**fitted, "kept": round(projection.kept, 6), "sha256": projection.sha256, "rows": [s.row() for s in scores]}
            )
            return 0
        show(
            f"{self.output}: {full} -> {self.dim} dimensions keep {projection.kept:.4f} of the second moment of "
            f"{vectors:,} vectors"
        )
        _table("", scores)
        return 0


@dataclass(frozen=True)
class BenchPooling:
    """Store the pages of an index pooled in several ways and ask questions of every copy: vectors and bytes of a page, and
    the ranking against the gold pages. The index is not changed."""

    qa: Path = option("JSONL of questions with evidence pages", metavar="QA.jsonl")
    index: Path = option("the index folder, made without --pool", metavar="DIR")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.retrieval.searcher import Searcher
        from colsearcher.training.questions import load_questions
        from colsearcher.training.storage_scores import evaluate_pooling

        questions = load_questions(self.qa, self.limit)
        with Searcher.open(self.index) as searcher:
            scores = evaluate_pooling(searcher, questions, tell=tell)
        if self.json:
            show_json({"rows": [score.row() for score in scores]})
            return 0
        _table("pooling", scores)
        return 0


def _table(first: str, scores: Sequence[StorageScores]) -> None:
    rows = [score.row() for score in scores]
    if rows:
        names = list(rows[0])[1:]
        show(f"{first:<20}" + "".join(f"{name.replace('_', ' '):>18}" for name in names))
    for row in rows:
        shown = [f"{value:,}" if isinstance(value, int) else f"{value:,.1f}" for value in list(row.values())[1:3]]
        shown += [f"{value:.4f}" for value in list(row.values())[3:]]
        show(f"{row['name']:<20}" + "".join(f"{value:>18}" for value in shown))
