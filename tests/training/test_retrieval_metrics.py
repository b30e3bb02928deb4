import doctest

import pytest

from colsearcher.training import retrieval_metrics
from colsearcher.training.retrieval_metrics import ndcg_at, recall_at, reciprocal_rank_at, summarise


def test_doctests():
    assert doctest.testmod(retrieval_metrics).failed == 0


def test_hand_computed_values():
    ranked, gold = ["x", "a", "y", "b"], {"a", "b", "c"}
    assert recall_at(ranked, gold, 4) == pytest.approx(2 / 3)
    # gains at ranks 2 and 4 over those at ranks 1, 2, 3
    assert ndcg_at(ranked, gold, 5) == pytest.approx((0.63093 + 0.43068) / (1 + 0.63093 + 0.5), abs=1e-4)
    assert reciprocal_rank_at(ranked, gold, 10) == 0.5
    assert reciprocal_rank_at(ranked, {"q"}, 10) == 0.0


def test_a_perfect_ranking_scores_one_and_nothing_found_scores_zero():
    assert set(summarise([(["a", "b"], {"a"})]).values()) == {1.0}
    assert set(summarise([([], {"a"})]).values()) == {0.0}
