import math
import re

import numpy as np
import pytest
from fake_pages import MANIFEST, document, page

from colsearcher.indexes import lexical
from colsearcher.indexes.page_index import PageIndex

TEXTS = (
    "the net margin rose to nine percent in the northern region",
    "net net net sales and nothing else",
    "harbour dues and other dues",
    "the margin of error is small",
    "a page about tulips in the north",
)


@pytest.fixture
def index(tmp_path):
    with PageIndex.create(tmp_path / "index", MANIFEST) as index:
        with index.writing():
            index.add([document("a.pdf", len(TEXTS))], [page("a.pdf", n, text=t) for n, t in enumerate(TEXTS, 1)])
        yield index


def plain_bm25(words):
    """The formula of the docstring over words as they stand, k1 = 1.2, b = 0.75."""
    pages = [re.findall(r"\w+", text) for text in TEXTS]
    average = sum(map(len, pages)) / len(pages)
    rarity = {w: math.log(1 + (len(pages) - n + 0.5) / (n + 0.5)) for w in words for n in [sum(w in p for p in pages)]}
    scores = []
    for text in pages:
        total = 0.0
        for word in words:
            tf = text.count(word)
            total += rarity[word] * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(text) / average))
        scores.append(total / sum(rarity.values()))
    return scores


def test_word_scores_are_bm25_with_our_rarity(index, monkeypatch):
    monkeypatch.setattr(lexical, "TABLES", ("page_words",))
    ids = np.arange(1, len(TEXTS) + 1)
    for question, words in (("What was the net margin?", ["net", "margin"]), ("dues for tulips", ["dues", "tulips"])):
        assert lexical.word_scores(index._db, question, ids) == pytest.approx(plain_bm25(words), abs=1e-4)


def test_stems_count_beside_words(index):
    scores = lexical.word_scores(index._db, "tulip margins", np.arange(1, 6))
    assert scores[4] > 0 and scores[0] > 0 and scores[2] == 0


def test_the_scale_does_not_depend_on_the_corpus_size(index):
    scores = lexical.word_scores(index._db, "harbour dues", np.arange(1, 6))
    assert 0.5 < scores[2] < 2.2 and scores.tolist().count(0) == 4


@pytest.mark.parametrize("question", ["", "?!", '"net', "net OR (margin", "NEAR(a b)", "a*b^c", "K-40's"])
def test_no_question_breaks_the_syntax(index, question):
    assert lexical.word_scores(index._db, question, np.arange(1, 6)).shape == (5,)


def test_rarity_of_a_word_and_of_a_phrase(index):
    assert index.word_weight("tulips") > index.word_weight("margin") > index.word_weight("the") > 0
    assert index.word_weight("net margin") == index.word_weight("tulips")
    assert index.word_weight("?") == 0.0
