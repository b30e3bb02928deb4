import numpy as np
import pytest
from PIL import Image

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.heat_map import crop, draw_heat_map, evidence, only_words, region, relevance

BOXES = np.array([[0.1, 0.1, 0.3, 0.2], [0.6, 0.1, 0.9, 0.2], [0.1, 0.7, 0.3, 0.9], [0, 0, 1, 1]], np.float32)
PAGE = PageEmbedding(np.eye(4, dtype=np.float16), BOXES, np.array([False, False, False, True]))


def query(*rows, weights=None):
    vectors = np.array(rows, np.float32)
    weights = np.ones(len(rows), np.float32) if weights is None else np.array(weights, np.float32)
    return QueryEmbedding(vectors, weights, tuple("bcdefg"[: len(rows)]), np.zeros(len(rows), bool), "")


def test_relevance_is_the_best_over_the_query_from_the_median_up_and_nothing_for_special_tokens():
    vectors = np.array([[1, 0], [0.1, 0], [0.3, 0], [0, 0.6], [0, 0], [1, 1]])
    page = PageEmbedding(vectors, np.zeros((6, 4)), np.arange(6) == 5)
    values = relevance(page, query([1, 0], [0, 1]))
    assert values == pytest.approx([1, 0, 0, (0.6 - 0.3) / (1 - 0.3), 0, 0])


def test_evidence_is_each_tokens_best_place_heaviest_first_without_repeats():
    found = evidence(Address("a.pdf", 2), PAGE, query([0, 0.6, 0, 0.8], [0, 0, 1, 0], [0, 0, 0.9, 0.1]), 5)
    assert [(e.word, str(e.address)) for e in found] == [
        ("c", "a.pdf#p=2&box=0.1,0.7,0.3,0.9"),
        ("b", "a.pdf#p=2&box=0.6,0.1,0.9,0.2"),
    ]
    assert evidence(Address("a.pdf", 2), PAGE, query([0, 1, 0, 0], weights=[0.0]), 5) == []


@pytest.mark.parametrize("size", [(600, 300), (300, 600)])
def test_the_picture_is_coloured_where_the_words_are_and_nowhere_else(size):
    white = Image.new("RGB", size, "white")
    drawn = np.asarray(draw_heat_map(white, PAGE, query([0, 1, 0, 0]))).astype(int)
    assert drawn.shape == (size[1], size[0], 3)
    ink = np.argwhere((drawn != 255).any(2)) / [size[1], size[0]]
    assert (ink.min(0) >= [0.05, 0.55]).all() and (ink.max(0) <= [0.25, 0.95]).all()
    y, x = round(0.15 * size[1]), round(0.75 * size[0])
    assert drawn[y, x, 2] < 190 < drawn[y, x, 0]


def test_a_page_without_vectors_is_drawn_as_it_is():
    empty = PageEmbedding(np.empty((0, 4)), np.empty((0, 4)), np.empty(0, bool))
    white = Image.new("RGB", (50, 40), "white")
    assert (np.asarray(draw_heat_map(white, empty, query([1, 0, 0, 0]))) == 255).all()


def test_crop_cuts_the_box():
    image = Image.new("RGB", (200, 100), "white")
    assert crop(image, Address("a.pdf", 1)).size == (200, 100)
    assert crop(image, Address("a.pdf", 1, (0.5, 0, 1, 0.25))).size == (100, 25)
    assert crop(image, Address("a.pdf", 1, (0.5, 0.5, 0.5001, 0.5001))).size == (1, 1)


def test_one_word_of_a_question_is_all_that_counts():
    alone = only_words(query([1, 0, 0, 0], [0, 1, 0, 0]), "C")
    assert relevance(PAGE, alone).argmax() == 1
    with pytest.raises(UserError, match="has no word «z»; its words are b, c"):
        only_words(query([1, 0], [0, 1]), "z")
    several = only_words(query([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]), "c D")
    assert (several.weights > 0).tolist() == [False, True, True]
    with pytest.raises(UserError, match="has no words «c b»"):
        only_words(query([1, 0], [0, 1]), "c b")


def test_a_region_is_the_best_place_and_what_touches_it():
    boxes = np.array([[0.0, 0.0, 0.2, 0.2], [0.2, 0.0, 0.4, 0.2], [0.2, 0.2, 0.4, 0.4], [0.8, 0.8, 1, 1], [0.4, 0, 0.6, 0.2]])
    vectors = np.array([[1.0], [0.9], [0.8], [0.95], [0.1]])
    page = PageEmbedding(vectors, boxes, np.zeros(5, bool))
    padded = PageEmbedding(np.vstack([vectors, np.zeros((6, 1))]), np.vstack([boxes, boxes[[4] * 6]]), np.zeros(11, bool))
    assert region(padded, query([1])) == (0.0, 0.0, 0.4, 0.4)
    nowhere = PageEmbedding(vectors, boxes, np.ones(5, bool))
    assert region(nowhere, query([1])) is None and region(page, query([1])) is not None
