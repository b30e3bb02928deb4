import doctest

import numpy as np
import pytest

from colsearcher.indexes import lexical, ranking
from colsearcher.indexes.ranking import combine, named_pages, vector_weights
from colsearcher.indexes.records import QueryEmbedding


def test_doctests():
    assert doctest.testmod(ranking).failed == doctest.testmod(lexical).failed == 0


def weights(words, base, special=None):
    query = QueryEmbedding(np.eye(len(words)), np.array(base, np.float32), words, np.array(special or [False] * len(words)), "")
    return vector_weights(query, {"rare": 4.0, "common": 1.0, "never": 0.0}.__getitem__).tolist()


def test_words_count_by_rarity_and_special_tokens_keep_their_share():
    # rare 4, common 1 -> 0.8, 0.2; specials 0.1 each; divided by 1.2
    found = weights(("", "rare", "common", ""), (0.1, 1, 1, 0.1), [True, False, False, True])
    assert found == pytest.approx([0.1 / 1.2, 0.8 / 1.2, 0.2 / 1.2, 0.1 / 1.2])


def test_a_visual_query_without_words_keeps_its_own_weights():
    assert weights(("", ""), (1, 3)) == pytest.approx([0.25, 0.75])


def test_where_no_word_weighs_anything_all_vectors_count_the_same():
    assert weights(("never", "never"), (1, 1)) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("question", "expected"),
    [("page 3?", [3]), ("Slide number 2 and p. 4", [2, 4]), ("the cover", [1]), ("on the first page", [1]), ("last slide", [4]),
     ("In 2 pages", []), ("homepage 3", []), ("pages of 3", [])],
)  # fmt: skip
def test_pages_named_in_a_question(question, expected):
    numbers = np.arange(1, 5)
    assert numbers[named_pages(question, numbers, np.full(4, 4))].tolist() == expected


def test_parts_are_named_and_belong_to_the_ranking():
    ones = np.ones(2)
    assert combine("late", ones, ones, ones).keys() == {"meaning"}
    assert combine("words", ones, ones, ones).keys() == {"words"}
    assert combine("default", ones, ones, ones).keys() == {"meaning", "words", "named"}
