import numpy as np
import pytest
from fake_embedder import HashEmbedder

from colsearcher.indexes.address import Address
from colsearcher.indexes.codecs import CODECS
from colsearcher.indexes.errors import UserError
from colsearcher.training.codec_evaluation import evaluate_codecs
from colsearcher.training.question import Paragraph, Question
from colsearcher.training.retrieval_evaluation import context_searcher

WORDS = [f"word{i}" for i in range(400)]


@pytest.fixture(scope="module")
def searcher():
    rng = np.random.default_rng(0)
    pages = [Paragraph(f"t{i}", " ".join(rng.choice(WORDS, 12))) for i in range(80)]
    with context_searcher([Question("q", "?", ("a",), frozenset(), tuple(pages))], HashEmbedder()) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def questions(searcher):
    """Five words of a page each."""
    return [
        Question(name, " ".join(text.split()[2:7]), ("a",), frozenset({Address(name, 1)} if i % 2 else ()))
        for i, (name, _, text) in enumerate(searcher.index.texts()[:20])
    ]


def test_codecs_cost_what_they_say_and_lose_more_the_smaller_they_are(searcher, questions):
    before = searcher.index.info()
    scores = {row.codec: row for row in evaluate_codecs(searcher, questions)}
    assert list(scores) == list(CODECS)
    assert [row.bytes_per_vector for row in scores.values()] == [64, 34, 18, 10, 6]
    assert scores["fp16"].recall == 1
    assert scores["int8"].recall > 0.95 > scores["1bit"].recall
    assert scores["fp16"].late_ndcg == scores["fp16"].ndcg == 1  # five words of one page
    assert searcher.index.info() == before


def test_without_gold_pages_there_is_no_ndcg(searcher, questions):
    (row,) = evaluate_codecs(searcher, questions[:1], codecs=["int8"])
    assert row.late_ndcg is None
    assert row.ndcg is None


def test_what_cannot_be_compared_is_refused(searcher, questions):
    with pytest.raises(UserError, match="no questions"):
        evaluate_codecs(searcher, [])
    with pytest.raises(UserError, match="not in the index"):
        evaluate_codecs(searcher, [Question("q", "word1", ("a",), frozenset({Address("nowhere", 1)}))])
