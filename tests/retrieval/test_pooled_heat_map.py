"""A heat map of a pooled page: drawn on the patches that the page had, from the vectors that it has left."""

from dataclasses import replace

import numpy as np
import pytest
from fake_pages import MANIFEST, document
from page_oracle import unit
from PIL import Image

from colsearcher.indexes.address import Address
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import PageEmbedding, PageRecord, QueryEmbedding
from colsearcher.retrieval.heat_map import draw_heat_map, evidence, relevance

GRID, DIM, SPECIAL = 32, 128, 6
BOX = np.array([5, 20, 9, 23]) / GRID  # x0, y0, x1, y1 of the patches that are about the question


def patches(topic):
    """A page of patches that change slowly over it, the ones in BOX about the topic, with special tokens that match it too."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:GRID, 0:GRID].reshape(2, -1)
    boxes = np.stack([x, y, x + 1, y + 1], axis=1).astype(np.float32) / GRID
    themes = unit(rng, 16, DIM)[(y // 8) * 4 + x // 8]
    inside = (boxes[:, :2] >= BOX[:2]).all(1) & (boxes[:, 2:] <= BOX[2:]).all(1)
    vectors = 0.7 * themes + 0.7 * unit(rng, GRID**2, DIM) + np.where(inside[:, None], 1.2 * topic, 0)
    vectors = np.concatenate([vectors, np.tile(topic, (SPECIAL, 1))])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    boxes = np.concatenate([boxes, np.tile(np.float32([0, 0, 1, 1]), (SPECIAL, 1))])
    return PageEmbedding(vectors.astype(np.float32), boxes, np.arange(len(vectors)) >= GRID**2), inside


@pytest.fixture(params=["cluster:3", "spatial:3", "cluster:6"])
def found(request, tmp_path):
    """The page as a 2-bit index without originals gives it back, the page as it was, its patches on the topic, the query."""
    topic = unit(np.random.default_rng(1), 1, DIM)
    page, inside = patches(topic)
    record = PageRecord("a.pdf", 1, page, "", np.empty((0, 4)), (595.0, 842.0), "none")
    manifest = replace(MANIFEST, dim=DIM, codec="2bit", originals=False, pool=request.param)
    with PageIndex.create(tmp_path / "index", manifest) as index, index.writing():
        index.add([document("a.pdf", 1)], [record])
        index.compact()
        stored = index.embedding("a.pdf", 1)
    query = QueryEmbedding(topic, np.ones(1, np.float32), ("topic",), np.zeros(1, bool), "topic")
    return stored, page, inside, query


def test_relevance_is_of_patches_and_highest_on_those_that_the_question_is_about(found):
    stored, page, inside, query = found
    assert len(stored.vectors) < len(page.vectors) / 2.8
    values = relevance(stored, query)
    assert values.shape == (GRID**2,)
    np.testing.assert_allclose(stored.places.boxes, page.boxes[: GRID**2], atol=1e-5)
    assert inside[values.argmax()]
    assert values[inside].mean() > 0.6 > 0.2 > values[~inside].mean()
    assert np.corrcoef(values, relevance(page, query)[: GRID**2])[0, 1] > 0.6


def test_evidence_lies_where_the_topic_is(found):
    stored, _, _, query = found
    (place,) = evidence(Address("a.pdf", 1), stored, query)
    x0, y0, x1, y1 = place.address.box
    assert (x1 - x0, y1 - y0) == pytest.approx((1 / GRID, 1 / GRID), abs=1e-3)
    assert BOX[0] - 0.01 <= x0 and BOX[1] - 0.01 <= y0 and x1 <= BOX[2] + 0.01 and y1 <= BOX[3] + 0.01


def test_the_picture_is_hottest_where_the_topic_is(found):
    stored, _, _, query = found
    drawn = np.asarray(draw_heat_map(Image.new("RGB", (640, 640), "white"), stored, query)).astype(int)
    heat = 255 - drawn[..., 2]
    x0, y0, x1, y1 = (BOX * 640).round().astype(int)
    assert heat[y0 + 8 : y1 - 8, x0 + 8 : x1 - 8].mean() > 3 * heat.mean()
    hot_y, hot_x = np.argwhere(heat > 0.7 * heat.max()).mean(0)
    assert y0 < hot_y < y1 and x0 < hot_x < x1
