import numpy as np

from colsearcher.training.baselines import best_first, bm25_scores, mean_pooled_scores

TEXTS = ["tulips bloom in spring", "the ferry leaves at nine", "", "tulips and tulips"]


def test_bm25_ranks_by_words_and_gives_nothing_for_unknown_ones():
    scores = bm25_scores(TEXTS, ["When does the ferry leave?", "tulips", "zebra", "the of and"])
    assert scores[0].argmax() == 1 and scores[1].argmax() == 3
    assert not scores[2].any() and not scores[3].any()


def test_mean_pooling_takes_the_best_window():
    def encode(texts):
        return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)

    texts = [" ".join(["a"] * 180 + ["b"] * 180), "a", ""]
    assert mean_pooled_scores(texts, ["b", "a"], encode).tolist() == [[180, 0, 0], [180, 1, 0]]


def test_ties_keep_the_order_of_the_names():
    names = [("a", 1), ("a", 2), ("b", 1)]
    assert best_first(np.array([1.0, 2.0, 1.0]), names, 3) == [("a", 2), ("a", 1), ("b", 1)]
