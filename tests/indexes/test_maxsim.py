import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colsearcher.indexes import maxsim
from colsearcher.indexes.maxsim import SCAN_SLACK, PageRows, page_score, scan


def naive_score(page_N_D, query_T_D, weights_T, block_rows=0):
    """The definition, in Python floats."""
    page = page_N_D.astype(np.float64).tolist()
    passages = [page]
    if block_rows:
        blocks = [page[i : i + block_rows] for i in range(0, len(page), block_rows)]
        passages = [a + b for a, b in itertools.pairwise(blocks)] or blocks
    return max(
        sum(
            weight * max(sum(a * b for a, b in zip(query, vector, strict=True)) for vector in passage)
            for query, weight in zip(query_T_D.tolist(), weights_T.tolist(), strict=True)
        )
        for passage in passages
    )


def unit(rng, n, d, dtype):
    vectors = rng.normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


def test_doctests():
    assert doctest.testmod(maxsim).failed == 0


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 9),
    st.sampled_from([0, 1, 4, 32]),
)
def test_equals_the_definition_for_ragged_pages(seed, lengths, query_length, block_rows):
    rng = np.random.default_rng(seed)
    pages = [unit(rng, n, 16, np.float16) for n in lengths]
    query = unit(rng, query_length, 16, np.float32)
    weights = rng.uniform(0, 1, query_length).astype(np.float32)
    expected = [naive_score(page, query, weights, block_rows) for page in pages]
    assert [page_score(page, query, weights, block_rows) for page in pages] == pytest.approx(expected, abs=1e-5)
    starts = np.cumsum([0, *lengths[:-1]])
    both = np.stack([weights, np.ones_like(weights)], axis=1)
    found = scan([PageRows(np.concatenate(pages), starts, np.array(lengths))], query, both, block_rows)[:, 0]
    assert found == pytest.approx(np.array(expected), abs=SCAN_SLACK * query_length)


def test_a_scan_skips_rows_of_removed_pages_and_crosses_block_ends(monkeypatch):
    monkeypatch.setattr(maxsim, "SCAN_ROWS", 7)
    rng = np.random.default_rng(0)
    vectors = unit(rng, 60, 8, np.float16)
    query = unit(rng, 3, 8, np.float32)
    starts, rows = np.array([0, 5, 20, 32, 50]), np.array([5, 10, 12, 1, 10])
    expected = [(vectors[a : a + n].astype(np.float32) @ query.T).max(0) for a, n in zip(starts, rows, strict=True)]
    np.testing.assert_allclose(scan([PageRows(vectors, starts, rows)], query, np.eye(3)), expected, atol=1e-6)
    naive = [naive_score(vectors[a : a + n], query, np.ones(3), 3) for a, n in zip(starts, rows, strict=True)]
    half = len(starts) // 2
    parts = [PageRows(vectors, starts[:half], rows[:half]), PageRows(vectors, starts[half:], rows[half:])]
    np.testing.assert_allclose(scan(parts, query, np.ones((3, 1)), 3)[:, 0], naive, atol=1e-5)


def test_nothing_to_scan_gives_no_scores():
    assert scan([], np.ones((2, 8), np.float32), np.ones((2, 3))).shape == (0, 3)


def test_a_page_scores_the_same_bits_wherever_it_is_stored():
    rng = np.random.default_rng(1)
    page, query, weights = unit(rng, 333, 384, np.float16), unit(rng, 11, 384, np.float32), np.ones(11, np.float32)
    alone = page_score(page, query, weights)
    for shift in (1, 3, 17):
        stored = np.concatenate([unit(rng, shift, 384, np.float16), page])
        assert page_score(stored[shift:], query, weights) == alone
