import pytest
from fake_embedder import HashEmbedder

from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.question import Paragraph, Question
from colsearcher.training.retrieval_evaluation import context_searcher
from colsearcher.training.retriever.negatives import mine
from colsearcher.training.retriever.pairs import pairs_of

TEXTS = {"gold": "the pump of valve seven", "near": "the pump of valve eight", "far": "a pump", "none": "tulips grow here"}


@pytest.fixture(scope="module")
def searcher():
    context = tuple(Paragraph(title, text) for title, text in TEXTS.items())
    with context_searcher([Question("1", "?", ("!",), frozenset(), context)], HashEmbedder()) as opened:
        assert isinstance(opened, Searcher)
        yield opened


def keys(*titles):
    return tuple(f"{title}#p=1" for title in titles)


def test_the_best_ranked_pages_that_are_not_gold(searcher):
    pairs = pairs_of([("the pump of valve seven", keys("gold")), ("tulips grow", keys("none"))])
    found = mine(searcher, pairs, 2, pages=keys(*TEXTS))
    assert found[0] == keys("near", "far") and "none#p=1" not in found[1]
    assert mine(searcher, pairs[:1], 1, pages=keys(*TEXTS), skip=1) == [keys("far")]
    assert mine(searcher, pairs[:1], 1, pages=keys("gold", "far", "none")) == [keys("far")]


def test_too_few_pages_are_refused(searcher):
    pairs = pairs_of([("the pump of valve seven", keys("gold", "near"))])
    with pytest.raises(UserError, match=r"gives 2 wrong pages .* not 5"):
        mine(searcher, pairs, 5, pages=keys(*TEXTS))
