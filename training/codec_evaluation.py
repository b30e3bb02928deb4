"""What each codec costs and keeps: bytes of a vector, recall of the exact ranking, nDCG on questions with known pages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from colsearcher.indexes.codecs import CODECS
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.records import SearchResult
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.index_copies import copy_index, require_originals
from colsearcher.training.question import Question
from colsearcher.training.retrieval_evaluation import require_gold
from colsearcher.training.retrieval_metrics import summarise

DEPTH = 10
_QUESTIONS = 16


@dataclass(frozen=True)
class CodecScores:
    """One codec, without originals beside it.

    Attributes:
        bytes_per_vector: codes and factors.
        recall: the share of the exact top ten of late interaction that the codes' top ten holds.
        late_ndcg: nDCG@5 of late interaction alone against the gold pages; None where no question has any.
        ndcg: the same of the default ranking.
    """

    codec: str
    bytes_per_vector: int
    recall: float
    late_ndcg: float | None
    ndcg: float | None


def evaluate_codecs(
    searcher: Searcher,
    questions: Sequence[Question],
    *,
    codecs: Sequence[str] = tuple(CODECS),
    tell: Callable[[str], None] = lambda line: None,
) -> list[CodecScores]:
    """Store the pages of an index with each codec, in a temporary folder, and ask the questions of every copy.

    Raises:
        UserError: the index keeps no float16 vectors, there are no questions, or a gold page is not in the index.
    """
    index = searcher.page_index
    require_originals(index, "codecs")
    asked = [question.text for question in questions]
    if not asked:
        raise UserError("There are no questions to ask.")
    gold = [{(place.document, place.page) for place in question.evidence} for question in questions]
    if any(gold):
        require_gold([question for question in questions if question.evidence], set(index.pages()), index.folder)
    tell(f"ranking {len(index.pages()):,} pages for {len(asked)} questions exactly")
    exact = [_pages(result) for result in _ask(searcher, asked, late=True, recall=1.0)]
    scores = []
    for codec in codecs:
        tell(f"the same with {codec}")
        coding = replace(index.manifest, codec=codec, originals=False)
        with tempfile.TemporaryDirectory() as folder, copy_index(index, Path(folder) / "index", coding) as copy:
            coded = Searcher(copy, searcher.embedder)
            late, default = ([_pages(r) for r in _ask(coded, asked, late=late)] for late in (True, False))
            found = float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(exact, late, strict=True)]))
            stored = copy.manifest.storage.bytes_per_vector
            scores.append(CodecScores(codec, stored, round(found, 4), _ndcg(late, gold), _ndcg(default, gold)))
    return scores


def _ask(searcher: Searcher, asked: Sequence[str], *, late: bool, recall: float = 0.99) -> list[SearchResult]:
    results: list[SearchResult] = []
    for first in range(0, len(asked), _QUESTIONS):
        some = asked[first : first + _QUESTIONS]
        results += searcher.search(some, DEPTH, ranking="late" if late else "default", recall=recall)
    return results


def _pages(result: SearchResult) -> list[tuple[str, int]]:
    return [(hit.document, hit.page) for hit in result.hits]


def _ndcg(ranked: Sequence[Sequence[tuple[str, int]]], gold: Sequence[set[tuple[str, int]]]) -> float | None:
    judged = [(pages, wanted) for pages, wanted in zip(ranked, gold, strict=True) if wanted]
    return summarise(judged)["ndcg@5"] if judged else None
