"""How good a ranking is: an index, or the paragraphs that the questions bring along, against gold pages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.ranking import Ranking
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.minilm import MiniLMEmbedder
from colsearcher.retrieval.passages import index_passages, titled
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.baselines import best_first, bm25_scores, mean_pooled_scores
from colsearcher.training.question import Question
from colsearcher.training.retrieval_metrics import summarise

DEPTH = 10
_BATCH = 16


@dataclass(frozen=True)
class RetrievalScores:
    """Metrics by ranking name, and how many questions they are over."""

    rankings: Mapping[str, Mapping[str, float]]
    questions: int
    unanswerable: int
    pages: int
    ms_per_question: float


def evaluate_retrieval(
    searcher: Searcher,
    questions: Sequence[Question],
    *,
    baselines: bool = True,
    on_progress: Callable[[str], None] = lambda text: None,
) -> RetrievalScores:
    """Rank all pages for each question that has gold pages; unanswerable ones are counted and left out.

    Raises:
        UserError: no question has gold pages, or a gold page is not in the index.
    """
    asked = [question for question in questions if question.evidence]
    names = searcher.index.pages()
    require_gold(asked, set(names), searcher.index.folder)
    rankings: dict[str, list[list[tuple[str, int]]]] = {}
    ms = 0.0
    modes: tuple[tuple[str, Ranking], ...] = (("default", "default"), ("late interaction", "late"))
    for name, mode in modes if baselines else modes[:1]:
        on_progress(f"ranking {len(names):,} pages for {len(asked)} questions: {name}")
        ranked = []
        for start in range(0, len(asked), _BATCH):
            results = searcher.search([q.text for q in asked[start : start + _BATCH]], DEPTH, ranking=mode)
            ranked += [[(hit.document, hit.page) for hit in result.hits] for result in results]
            if mode == "default":
                ms += results[0].timing_ms["embed"] + results[0].timing_ms["scan"]
                ms += sum(result.timing_ms["rank"] for result in results)
        rankings[name] = ranked
    if baselines:
        pages = searcher.index.texts()
        texts, asked_texts = [text for _, _, text in pages], [q.text for q in asked]
        on_progress("baseline: BM25")
        rankings["bm25"] = [best_first(row, names, DEPTH) for row in bm25_scores(texts, asked_texts)]
        on_progress("baseline: mean-pooled vectors of 180-word windows")
        encoder = searcher.embedder if isinstance(searcher.embedder, MiniLMEmbedder) else MiniLMEmbedder()
        scores = mean_pooled_scores(texts, asked_texts, encoder.mean_vectors)
        rankings["mean-pooled"] = [best_first(row, names, DEPTH) for row in scores]
    gold = [{(place.document, place.page) for place in q.evidence} for q in asked]
    summary = {name: summarise(list(zip(ranked, gold, strict=True))) for name, ranked in rankings.items()}
    return RetrievalScores(summary, len(asked), len(questions) - len(asked), len(names), ms / len(asked))


def require_gold(asked: Sequence[Question], names: set[tuple[str, int]], folder: Path) -> None:
    """Refuse to score questions on an index that cannot hold their answers.

    Raises:
        UserError: no question is asked, or a gold page is not among the names.
    """
    if not asked:
        raise UserError("No question has evidence pages; retrieval is scored on those that have.")
    missing = sorted({str(place) for q in asked for place in q.evidence if (place.document, place.page) not in names})
    if missing:
        raise UserError(
            f"{len(missing)} gold pages are not in the index at {folder} (first: {missing[0]}); "
            "add the folder that the questions' document ids are relative to."
        )


@contextmanager
def context_searcher(questions: Sequence[Question], embedder: PageEmbedder) -> Iterator[Searcher]:
    """An index, for the time of the `with`, of the distinct paragraphs of HotpotQA-style records: one page per title.

    Paragraphs with the same title and different texts become one page, joined, so that a gold title stays one page.
    """
    texts: dict[str, dict[str, None]] = {}
    for paragraph in (paragraph for question in questions for paragraph in question.context):
        texts.setdefault(paragraph.title, {})[paragraph.text] = None
    joined = {title: (titled(title, " ".join(parts)),) for title, parts in texts.items()}
    with tempfile.TemporaryDirectory() as folder, index_passages(Path(folder) / "index", joined, embedder) as index:
        yield Searcher(index, embedder)
