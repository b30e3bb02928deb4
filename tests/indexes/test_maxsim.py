import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_oracle import naive_score, unit

from colsearcher.indexes import maxsim
from colsearcher.indexes.maxsim import QueryBatch, best_passage, page_score, passage_maxima


def test_doctests():
    assert doctest.testmod(maxsim).failed == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 9), st.sampled_from([0, 1, 4, 32]))
def test_equals_the_definition(seed, rows, query_length, block_rows):
    rng = np.random.default_rng(seed)
    page, query = unit(rng, rows, 16, np.float16), unit(rng, query_length, 16)
    weights = rng.uniform(0, 1, query_length)
    assert page_score(page, query, weights, block_rows) == pytest.approx(
        naive_score(page, query, weights, block_rows), abs=1e-5
    )


def test_the_best_passage_gives_the_page_its_score():
    rng = np.random.default_rng(0)
    page, query, weights = unit(rng, 150, 16, np.float16), unit(rng, 5, 16), np.full(5, 0.2)
    rows = best_passage(page, query, weights, 32)
    assert rows.stop - rows.start <= 64
    assert naive_score(page[rows], query, weights) == pytest.approx(page_score(page, query, weights, 32), abs=1e-6)


def test_a_page_of_one_block_is_one_passage():
    assert passage_maxima(np.eye(3, dtype=np.float16), np.eye(3, dtype=np.float32), 4).tolist() == [[1, 1, 1]]


def test_a_batch_remembers_whose_vectors_are_whose():
    batch = QueryBatch.stack([np.ones((2, 4)), np.zeros((3, 4))], [np.ones(2), np.zeros(3)])
    assert batch.vectors_T_D.shape == (5, 4)
    assert batch.offsets_Q.tolist() == [0, 2, 5]
    assert batch.weights_T.tolist() == [1, 1, 0, 0, 0]
