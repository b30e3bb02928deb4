"""The compiled scans beside the definition in float64, on every codec and both kinds of processor."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_oracle import naive_score, unit

from colsearcher.indexes.codecs import CODECS
from colsearcher.indexes.kernels import cpu, tile_ops
from colsearcher.indexes.maxsim import SCORE_ERROR, PageRows, QueryBatch

TILES = [False, pytest.param(True, marks=pytest.mark.skipif(not tile_ops.available(), reason="no matrix tiles here"))]


def stored(codec, vectors, starts, rows):
    return PageRows("segment", codec.encode(vectors), np.asarray(starts), np.asarray(rows))


def queries_of(rng, lengths, dim):
    weights = [rng.uniform(0.1, 1, n) for n in lengths]
    return [unit(rng, n, dim) for n in lengths], [w / w.sum() for w in weights]


def test_doctests():
    assert doctest.testmod(cpu).failed == 0


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=10),
    query_lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    dim=st.sampled_from([8, 24, 64, 100, 128, 200]),
    block_rows=st.sampled_from([0, 1, 4, 32]),
)
def test_a_scan_equals_the_definition_on_what_is_stored(tiles, name, seed, lengths, query_lengths, dim, block_rows):
    rng = np.random.default_rng(seed)
    codec = CODECS[name]
    vectors = unit(rng, sum(lengths), dim, np.float16)
    starts = np.cumsum([0, *lengths[:-1]])
    pages = stored(codec, vectors, starts, lengths)
    read_back = codec.decode(pages.encoded, dim)
    queries, weights = queries_of(rng, query_lengths, dim)
    found = cpu.scan([pages], codec, QueryBatch.stack(queries, weights), block_rows, tiles=tiles)
    expected = [
        [naive_score(read_back[s : s + n], q, w, block_rows) for q, w in zip(queries, weights, strict=True)]
        for s, n in zip(starts, lengths, strict=True)
    ]
    # On tiles codes meet the query in 8 bits; a page of one vector and a query of one show the most of that.
    bound = 6e-3 if tiles and codec.bits < 16 else SCORE_ERROR
    np.testing.assert_allclose(found, expected, atol=bound)


@pytest.mark.parametrize("tiles", TILES)
def test_a_score_of_float16_pages_is_exact_at_any_batch_composition(tiles):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 1100, 30)
    starts = np.cumsum(lengths) - lengths
    vectors = unit(rng, lengths.sum(), 128, np.float16)
    queries, weights = queries_of(rng, [20, 1, 33, 64], 128)
    pages = stored(CODECS["fp16"], vectors, starts, lengths)
    together = cpu.scan([pages], CODECS["fp16"], QueryBatch.stack(queries, weights), tiles=tiles)
    for q, (query, weight) in enumerate(zip(queries, weights, strict=True)):
        alone = cpu.scan([pages], CODECS["fp16"], QueryBatch.stack([query], [weight]), tiles=tiles)[:, 0]
        assert alone.tobytes() == together[:, q].tobytes()
        for i in (0, 7, 29):
            page = vectors[starts[i] : starts[i] + lengths[i]]
            assert alone[i] == pytest.approx(naive_score(page, query, weight), abs=1e-4)


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("name", CODECS)
def test_a_page_scores_the_same_bits_wherever_it_lies_and_whatever_lies_beside_it(tiles, name):
    rng = np.random.default_rng(1)
    codec = CODECS[name]
    page, (queries, weights) = unit(rng, 333, 128, np.float16), queries_of(rng, [11], 128)
    batch = QueryBatch.stack(queries, weights)
    alone = cpu.scan([stored(codec, page, [0], [333])], codec, batch, 32, tiles=tiles)[0, 0]
    for shift in (1, 3, 17):
        beside = unit(rng, shift + 5, 128, np.float16)
        vectors = np.concatenate([beside[:shift], page, beside[shift:]])
        pages = stored(codec, vectors, [0, shift, shift + 333], [shift, 333, 5])
        assert cpu.scan([pages], codec, batch, 32, tiles=tiles)[1, 0] == alone


@pytest.mark.parametrize("tiles", TILES)
def test_removed_pages_are_stepped_over_and_tasks_change_nothing(tiles, monkeypatch):
    rng = np.random.default_rng(2)
    vectors = unit(rng, 60, 64, np.float16)
    starts, rows = np.array([0, 5, 20, 32, 50]), np.array([5, 10, 12, 1, 10])
    queries, weights = queries_of(rng, [3], 64)
    expected = [naive_score(vectors[a : a + n], queries[0], weights[0], 3) for a, n in zip(starts, rows, strict=True)]
    codec, batch = CODECS["fp16"], QueryBatch.stack(queries, weights)
    encoded = codec.encode(vectors)
    parts = [PageRows("a", encoded, starts[:2], rows[:2]), PageRows("b", encoded, starts[2:], rows[2:])]
    whole = cpu.scan(parts, codec, batch, 3, tiles=tiles)
    np.testing.assert_allclose(whole[:, 0], expected, atol=SCORE_ERROR)
    monkeypatch.setattr(cpu, "_LEAST_ROWS", 7)
    assert cpu.scan(parts, codec, batch, 3, tiles=tiles).tobytes() == whole.tobytes()


def test_nothing_to_scan_gives_no_scores():
    batch = QueryBatch.stack([np.ones((2, 8))] * 3, [np.ones(2)] * 3)
    assert cpu.scan([], CODECS["fp16"], batch).shape == (0, 3)


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("name", CODECS)
def test_a_zero_vector_scores_nothing(tiles, name):
    codec = CODECS[name]
    vectors = np.zeros((3, 64), dtype=np.float16)
    batch = QueryBatch.stack([np.eye(2, 64)], [np.ones(2)])
    assert cpu.scan([stored(codec, vectors, [0], [3])], codec, batch, tiles=tiles)[0, 0] == 0
