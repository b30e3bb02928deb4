import doctest
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from fake_pages import MANIFEST, document, page, query
from hypothesis import given, settings
from hypothesis import strategies as st
from page_oracle import unit

from colsearcher.indexes import page_pooling, places, records
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.maxsim import page_score
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.page_pooling import PagePooling
from colsearcher.indexes.places import decode_places, encode_places
from colsearcher.indexes.records import PageEmbedding, Places
from colsearcher.retrieval.visual.patches import grid_boxes


def test_doctests():
    for module in (page_pooling, places, records):
        assert doctest.testmod(module).failed == 0


def patches(lines, columns, special=0, seed=0, dim=16):
    y, x = np.mgrid[0:lines, 0:columns]
    boxes = np.stack([x / columns, y / lines, (x + 1) / columns, (y + 1) / lines], axis=-1).reshape(-1, 4)
    boxes = np.concatenate([boxes, np.tile([0, 0, 1, 1], (special, 1))]).astype(np.float32)
    n = lines * columns + special
    return PageEmbedding(unit(np.random.default_rng(seed), n, dim), boxes, np.arange(n) >= lines * columns)


def scattered(seed, rows, special, dim=16):
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.uniform(size=(rows, 2, 2)), axis=1).reshape(rows, 4).astype(np.float32)
    is_special = rng.permutation(np.arange(rows) < special)
    boxes[is_special] = [0, 0, 1, 1]
    return PageEmbedding(unit(rng, rows, dim), boxes, is_special)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.integers(0, 200), st.integers(0, 8), st.sampled_from(["cluster", "spatial"]), st.integers(2, 9)
)
def test_a_pooled_page_stands_for_every_place_and_keeps_its_special_vectors(seed, rows, special, method, size):
    made = scattered(seed, rows, min(special, rows))
    pooled = PagePooling(method, size).apply(made)
    kept = made.special.sum()
    if kept == rows:
        assert pooled is made
        return
    placed = rows - kept
    groups = len(pooled.vectors) - kept
    assert 1 <= groups <= -(-placed // size)
    np.testing.assert_array_equal(pooled.vectors[pooled.special], made.vectors[made.special])
    np.testing.assert_allclose(np.linalg.norm(pooled.vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(pooled.places.boxes, made.boxes[~made.special])
    assert set(pooled.places.owner) == set(range(groups))
    for group in range(groups):
        own = made.standing().boxes[pooled.places.owner == group]
        np.testing.assert_array_equal(pooled.boxes[group], [*own[:, :2].min(0), *own[:, 2:].max(0)])
        mean = made.vectors[~made.special][pooled.places.owner == group].mean(0)
        np.testing.assert_allclose(pooled.vectors[group], mean / np.linalg.norm(mean), atol=1e-4)
    assert PagePooling(method, size).apply(pooled) is pooled


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 300), st.integers(1, 65_536))
def test_places_come_back_as_they_were_stored(seed, count, owners):
    rng = np.random.default_rng(seed)
    made = Places(rng.uniform(size=(count, 4)).astype(np.float32), rng.integers(0, owners, count))
    back = decode_places(encode_places(made))
    np.testing.assert_array_equal(back.owner, made.owner)
    np.testing.assert_allclose(back.boxes, made.boxes, atol=0.51 / 65535)
    assert encode_places(back) == encode_places(made)


def test_places_of_a_page_of_patches_are_small_whatever_owns_them():
    grid = patches(32, 32, special=6)
    for pooled in (PagePooling(method, 3).apply(grid) for method in ("cluster", "spatial")):
        assert len(encode_places(pooled.places)) < 2_000
    assert len(encode_places(Places(grid.boxes, np.random.default_rng(0).integers(0, 344, 1_030)))) < 2_000


def test_what_is_not_places_is_refused():
    with pytest.raises(ValueError, match="cannot be read"):
        decode_places(b"not zlib")
    with pytest.raises(ValueError, match="65536"):
        encode_places(Places(np.zeros((1, 4)), np.array([65_536])))
    with pytest.raises(ValueError, match="do not describe the same places"):
        Places(np.zeros((2, 4)), np.array([0]))
    with pytest.raises(ValueError, match="rows up to 1 of 1"):
        PageEmbedding(np.ones((1, 2)), np.zeros((1, 4)), np.zeros(1, bool), Places(np.zeros((1, 4)), np.array([1])))


def test_a_pooled_vector_stands_for_about_as_many_as_was_asked():
    grid = patches(32, 32)
    lines = PageEmbedding(grid.vectors[:300], grid.boxes[:300], np.zeros(300, bool))  # a third of a page
    for whole in (grid, lines):
        for method in ("cluster", "spatial"):
            pooled = PagePooling(method, 3).apply(whole)
            assert 2.9 < len(whole.vectors) / len(pooled.vectors) < 3.8, method


def test_tiles_of_places_that_cannot_be_told_apart_are_runs():
    made = PageEmbedding(unit(np.random.default_rng(0), 9, 8), np.tile([0, 0, 1, 1], (9, 1)), np.zeros(9, bool))
    assert PagePooling("spatial", 3).apply(made).places.owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("text", ["cluster", "cluster:1", "cluster:0", "tiles:3", "cluster:3x", "cluster:1000", "spatial:-2"])
def test_what_is_no_pooling_is_one_sentence(text):
    with pytest.raises(UserError, match=f"«{text}» is no way of pooling"):
        PagePooling.parse(text)


def test_a_pooling_is_written_as_it_is_read():
    assert str(PagePooling.parse("spatial:12")) == "spatial:12"
    assert PagePooling.parse("none") is PagePooling.parse("") is None


@pytest.fixture(params=["4bit", "2bit", "fp16"])
def index(tmp_path, request):
    manifest = replace(MANIFEST, pool="cluster:3", codec=request.param, originals=request.param == "4bit")
    with PageIndex.create(tmp_path / "index", manifest) as index:
        yield index


def fill(index, name, pages, rows=20, **more):
    with index.writing():
        index.add([document(name, pages, **more)], [page(name, n, rows=rows) for n in range(1, pages + 1)])


def test_an_index_pools_what_is_added_and_gives_the_places_back_through_everything(index):
    fill(index, "a.pdf", 3)
    fill(index, "b.pdf", 2, rows=1)
    fill(index, "c.pdf", 1, rows=0)
    expected = {n: PagePooling("cluster", 3).apply(page("a.pdf", n, rows=20).embedding) for n in (1, 2, 3)}

    def same_as_made():
        for n, made in expected.items():
            stored = index.embedding("a.pdf", n)
            np.testing.assert_array_equal(stored.places.owner, made.places.owner)
            np.testing.assert_allclose(stored.places.boxes, made.places.boxes, atol=1e-5)
            assert stored.vectors.shape == made.vectors.shape == (7, 16)

    same_as_made()
    assert index.embedding("b.pdf", 1).places.owner.tolist() == [0]
    assert index.embedding("c.pdf", 1).places is None
    with index.writing():
        index.remove(["b.pdf"])
        index.compact()
    same_as_made()
    assert index.verify() == []
    with index.writing():
        index.add([document("a.pdf", 1, sha="2")], [page("a.pdf", 1, rows=9)])
    assert index.embedding("a.pdf", 1).vectors.shape == (3, 16)
    assert len(index.embedding("a.pdf", 1).places.owner) == 9
    info = index.info()
    assert info["vectors"] == 3
    assert 0 < info["place_bytes"] < 200


def test_a_pooled_page_scores_as_its_pooled_vectors_do(index):
    fill(index, "a.pdf", 4)
    q = query(3)
    for hit in index.search([q], 9, ranking="late")[0].hits:
        vectors = index.embedding("a.pdf", hit.page).vectors
        assert hit.score == pytest.approx(page_score(vectors, q.vectors, np.full(4, 0.25)), abs=3e-3)


def test_a_pooled_page_is_not_pooled_again(index):
    fill(index, "a.pdf", 1)
    stored = index.embedding("a.pdf", 1)
    with index.writing():
        index.add([document("b.pdf", 1)], [replace(page("b.pdf", 1), embedding=stored)])
    np.testing.assert_array_equal(index.embedding("b.pdf", 1).places.owner, stored.places.owner)


@pytest.mark.parametrize("damage", [b"no zlib", encode_places(Places(np.zeros((2, 4)), np.array([0, 99])))])
def test_damaged_places_are_found_and_named(index, damage):
    fill(index, "a.pdf", 1)
    with sqlite3.connect(index.folder / "catalog.sqlite") as db:
        db.execute("UPDATE page SET places = ?", (damage,))
    db.close()
    (fault,) = index.verify()
    assert "the places of a.pdf page 1" in fault


def test_a_sample_of_vectors_is_of_stored_rows_and_bounded(index):
    fill(index, "a.pdf", 5, rows=60)
    stored = np.concatenate([index.embedding("a.pdf", n).vectors for n in range(1, 6)]).astype(np.float32)
    assert index.sample_vectors(10_000).shape == stored.shape == (100, 16)
    for count in (3, 7):
        sampled = index.sample_vectors(count)
        assert sampled.shape == (count, 16)
        assert (np.abs(sampled[:, None] - stored).max(2).min(1) < 1e-6).all()
        np.testing.assert_array_equal(sampled, index.sample_vectors(count))


def test_what_is_rare_on_a_page_keeps_vectors_of_its_own_beside_much_that_is_alike():
    rng = np.random.default_rng(0)
    kinds = np.zeros(144, dtype=np.int64)
    for kind, start in enumerate((30, 33, 36, 70, 73, 76, 110, 113), 1):  # things of two patches side by side
        kinds[start : start + 2] = kind
    vectors = unit(rng, 9, 64)[kinds] + 0.01 * unit(rng, 144, 64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    page = PageEmbedding(vectors, grid_boxes(12, 12), np.zeros(144, bool))
    pooled = PagePooling("cluster", 12).apply(page)
    assert len(pooled.vectors) <= 12
    assert all(len(set(kinds[pooled.places.owner == row])) == 1 for row in range(len(pooled.vectors)))
