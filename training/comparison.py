"""Two embedders, or two indexes, side by side on the same questions: how well each ranks, what it costs, who gained."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.ranking import Ranking
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, PageRecord
from colsearcher.retrieval.corpus import ReadProblem, Sources
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.indexing import missing_work, open_or_create, page_record
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.reading import DocumentInfo, ReadSettings, read_documents
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.question import Question
from colsearcher.training.retrieval_evaluation import require_gold
from colsearcher.training.retrieval_metrics import bootstrap_interval, ndcg_at, summarise

# A gold page further down than this counts as not found.
DEPTH = 100
METRICS = ("recall@1", "recall@5", "recall@10", "ndcg@5", "mrr@10")
_PAGES = 32


@dataclass(frozen=True)
class Side:
    """What one of the two did.

    Attributes:
        embedder: its name.
        metrics: those of `METRICS`, means over the questions.
        pages: how many it ranked.
        bytes_per_page: what the index keeps of the vectors: codes, originals, and the boxes that they stand for.
        vectors_per_page: mean over all pages, blank ones too.
        embed_pages_per_s: embedding alone, one batch after the other, the pages' words at hand; a model that reads pixels
            draws them in this time. None for an index that was there already.
        ms_per_question: mean, asked one at a time, from the text of the question to the ranked pages.
        ranks: for each question the place of its first gold page, None beyond `DEPTH`.
        ndcg: nDCG@5 of each question.
    """

    embedder: str
    metrics: Mapping[str, float]
    pages: int
    bytes_per_page: float
    vectors_per_page: float
    embed_pages_per_s: float | None
    ms_per_question: float
    ranks: tuple[int | None, ...]
    ndcg: tuple[float, ...]


@dataclass(frozen=True)
class RankChange:
    """The place of a question's first gold page in either ranking, None beyond `DEPTH`."""

    question: str
    a: int | None
    b: int | None

    @property
    def gain(self) -> int:
        """How many places b puts the page higher; what is not found counts as the place after the last."""
        return (self.a or DEPTH + 1) - (self.b or DEPTH + 1)


@dataclass(frozen=True)
class Comparison:
    """Both sides.

    Attributes:
        changes: of all questions, the most changed first.
        difference: nDCG@5 of b less that of a.
        interval: its 95 % interval by a paired bootstrap over the questions.
        unanswerable: questions without gold pages, left out.
        problems: what could not be read.
    """

    a: Side
    b: Side
    changes: tuple[RankChange, ...]
    difference: float
    interval: tuple[float, float]
    unanswerable: int
    problems: tuple[ReadProblem, ...] = ()


def compare_embedders(
    embedders: tuple[PageEmbedder, PageEmbedder],
    sources: Sources,
    questions: Sequence[Question],
    *,
    settings: ReadSettings | None = None,
    ranking: Ranking = "late",
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Read the sources once, index them with each embedder in a temporary folder, and ask both indexes.

    Raises:
        UserError: no question has gold pages, or a gold page is not among the pages of the sources.
    """
    settings = settings or ReadSettings()
    asked = _asked(questions)
    _require(asked, {source.document for source in sources})
    tell(f"reading {len(sources):,} files")
    corpus = _Corpus.read(sources, settings)
    _require(asked, corpus.addresses)
    sides = []
    for embedder in embedders:
        tell(f"embedding {len(corpus.pages):,} pages: {embedder.name} on {embedder.device}")
        with tempfile.TemporaryDirectory() as folder, open_or_create(Path(folder) / "index", embedder, settings) as index:
            speed = corpus.index_into(index, embedder)
            tell(f"asking {len(asked):,} questions")
            sides.append(_side(Searcher(index, embedder), asked, ranking, speed))
    return _comparison(sides[0], sides[1], asked, len(questions), corpus.problems)


def compare_indexes(
    folders: tuple[Path, Path],
    questions: Sequence[Question],
    *,
    ranking: Ranking = "late",
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Ask two indexes, each with the embedder that made it.

    Raises:
        IndexProblem: there is no index, or its embedder is another one now.
        UserError: no question has gold pages, or a gold page is not in one of the indexes.
    """
    asked = _asked(questions)
    sides, pages = [], []
    for folder in folders:
        with Searcher.open(folder) as searcher:
            tell(f"asking {len(asked):,} questions of {folder}: {searcher.embedder.name} on {searcher.embedder.device}")
            pages.append(set(searcher.index.pages()))
            sides.append(_side(searcher, asked, ranking, None))
    if pages[0] != pages[1]:
        tell(
            f"the indexes hold different pages: {len(pages[0] - pages[1]):,} are in {folders[0]} only, "
            f"{len(pages[1] - pages[0]):,} in {folders[1]} only"
        )
    return _comparison(sides[0], sides[1], asked, len(questions))


def _asked(questions: Sequence[Question]) -> list[Question]:
    if any(question.context for question in questions):
        raise UserError("Questions that bring their own paragraphs have no pages to compare on; give questions about files.")
    asked = [question for question in questions if question.evidence]
    if not asked:
        raise UserError("No question has evidence pages; a comparison needs some that have.")
    return asked


def _require(asked: Sequence[Question], known: set[str]) -> None:
    """Refuse gold pages that are not known, by document or by address."""
    gold = {place for question in asked for place in question.evidence}
    missing = sorted(str(place) for place in gold if not known & {place.document, str(place)})
    if missing:
        raise UserError(
            f"{len(missing)} gold pages are not among those of the files (first: {missing[0]}); "
            "name the folder that the questions' document ids are relative to."
        )


@dataclass(frozen=True)
class _Corpus:
    """Pages in the order of their documents, with what could not be read of them in its place."""

    documents: Mapping[str, DocumentRecord]
    pages: Sequence[Page | ReadProblem]
    problems: tuple[ReadProblem, ...]

    @classmethod
    def read(cls, sources: Sources, settings: ReadSettings) -> _Corpus:
        work = missing_work(None, sources)
        paths = {source.document: str(source.path) for source in work.to_read}
        documents: dict[str, DocumentRecord] = {}
        pages: list[Page | ReadProblem] = []
        problems = list(work.problems)
        for record in read_documents(work.to_read, settings):
            if isinstance(record, DocumentInfo):
                name = record.document
                documents[name] = DocumentRecord(name, paths[name], work.hashes[name], record.pages, record.metadata)
                continue
            if isinstance(record, ReadProblem):
                problems.append(record)
            if isinstance(record, Page) or record.page is not None:
                pages.append(record)
        return cls(documents, pages, tuple(problems))

    @property
    def addresses(self) -> set[str]:
        return {str(Address(page.document, page.number if isinstance(page, Page) else page.page or 0)) for page in self.pages}

    def index_into(self, index: PageIndex, embedder: PageEmbedder) -> float:
        """Store all pages. Returns the pages embedded per second."""
        readable = [page for page in self.pages if isinstance(page, Page)]
        embedder.embed_pages(readable[:1])  # the first call loads the model
        seconds = 0.0
        with index.writing():
            for start in range(0, len(self.pages), _PAGES):
                batch = self.pages[start : start + _PAGES]
                at = time.perf_counter()
                embeddings = iter(embedder.embed_pages([page for page in batch if isinstance(page, Page)]))
                seconds += time.perf_counter() - at
                records = [
                    page_record(page, next(embeddings)) if isinstance(page, Page) else _unread(page, embedder.dim)
                    for page in batch
                ]
                index.add([self.documents[name] for name in dict.fromkeys(record.document for record in records)], records)
        return len(readable) / seconds if seconds else 0.0


def _unread(problem: ReadProblem, dim: int) -> PageRecord:
    nothing = PageEmbedding(np.empty((0, dim), np.float32), np.empty((0, 4), np.float32), np.empty(0, bool))
    return PageRecord(
        problem.document, problem.page or 0, nothing, "", np.empty((0, 4)), (0.0, 0.0), "none", problem=problem.reason
    )


def _side(searcher: Searcher, asked: Sequence[Question], ranking: Ranking, speed: float | None) -> Side:
    names = set(searcher.index.pages())
    require_gold(asked, names, searcher.index.folder)
    searcher.search([asked[0].text], DEPTH, ranking=ranking)  # the first search loads the model and opens the vectors
    ranked, ms = [], 0.0
    for question in asked:
        (result,) = searcher.search([question.text], DEPTH, ranking=ranking)
        ms += result.timing_ms["total"]
        ranked.append([(hit.document, hit.page) for hit in result.hits])
    gold = [{(place.document, place.page) for place in question.evidence} for question in asked]
    pairs = list(zip(ranked, gold, strict=True))
    metrics = summarise(pairs)
    info = searcher.index.info()
    return Side(
        embedder=searcher.embedder.name,
        metrics={name: metrics[name] for name in METRICS},
        pages=len(names),
        bytes_per_page=(cast("int", info["vector_bytes"]) + cast("int", info["place_bytes"])) / len(names),
        vectors_per_page=cast("int", info["vectors"]) / len(names),
        embed_pages_per_s=speed,
        ms_per_question=ms / len(asked),
        ranks=tuple(next((n for n, page in enumerate(pages, 1) if page in wanted), None) for pages, wanted in pairs),
        ndcg=tuple(ndcg_at(*pair, 5) for pair in pairs),
    )


def _comparison(
    a: Side, b: Side, asked: Sequence[Question], questions: int, problems: tuple[ReadProblem, ...] = ()
) -> Comparison:
    changes = [RankChange(q.id, *ranks) for q, *ranks in zip(asked, a.ranks, b.ranks, strict=True)]
    differences = np.subtract(b.ndcg, a.ndcg)
    return Comparison(
        a,
        b,
        tuple(sorted(changes, key=lambda change: -abs(change.gain))),
        float(differences.mean()),
        bootstrap_interval(differences),
        questions - len(asked),
        problems,
    )
