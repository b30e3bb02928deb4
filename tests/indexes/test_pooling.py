import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_oracle import unit

from colsearcher.indexes import pooling
from colsearcher.indexes.pooling import groups_for, pool, pool_pages


def test_doctests():
    assert doctest.testmod(pooling).failed == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 40), st.sampled_from(["cluster", "spatial"]))
def test_every_row_has_a_group_and_every_group_is_the_mean_of_its_rows(seed, rows, groups, method):
    vectors = unit(np.random.default_rng(seed), rows, 16)
    pooled = pool(vectors, groups, method=method)
    assert pooled.owner.shape == (rows,)
    assert set(pooled.owner.tolist()) == set(range(len(pooled.vectors)))
    assert len(pooled.vectors) <= max(groups, rows if rows <= groups else 0)
    for group, vector in enumerate(pooled.vectors):
        mean = vectors[pooled.owner == group].mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-4)
    assert (pooled.reach >= 0).all()
    assert (pooled.reach <= 1).all()


def test_clusters_find_groups_that_are_there():
    rng = np.random.default_rng(0)
    centres = unit(rng, 8, 64)
    which = rng.integers(0, 8, 400)
    vectors = centres[which] + 0.05 * rng.normal(size=(400, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pooled = pool(vectors, 16)
    for group in range(len(pooled.vectors)):
        assert len(set(which[pooled.owner == group])) == 1


def test_tiles_keep_neighbours_together_on_a_page_that_is_not_square():
    lines, columns = 40, 20
    y, x = np.mgrid[0:lines, 0:columns]
    boxes = np.stack([x / columns, y / lines, (x + 1) / columns, (y + 1) / lines], axis=-1).reshape(-1, 4)
    pooled = pool(unit(np.random.default_rng(1), lines * columns, 8), 32, boxes=boxes, method="spatial")
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 * [columns, lines]
    for group in range(len(pooled.vectors)):
        own = centre[pooled.owner == group]
        assert np.ptp(own, axis=0).max() <= 10, "a tile is about as wide as high, in patches"


def test_pages_are_pooled_as_they_would_be_alone():
    rng = np.random.default_rng(2)
    vectors = unit(rng, 500, 16, np.float16)
    starts, rows = np.array([0, 300, 310, 310]), np.array([300, 10, 0, 190])
    pooled, owner = pool_pages(vectors, starts, rows)
    for i, (start, count) in enumerate(zip(starts, rows, strict=True)):
        own = pooled[owner == i]
        if not count:
            assert not len(own)
            continue
        alone = pool(vectors[start : start + count], groups_for(count))
        np.testing.assert_array_equal(own, alone.vectors * (1 + 2 * alone.reach[:, None]))


def test_a_number_of_groups_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="groups"):
        pool(np.eye(3, dtype=np.float32), 0)
