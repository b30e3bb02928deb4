"""Every colpali-engine family through embed, index, search, heat map and box, beside colpali-engine's own scores."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny_checkpoints import build, save

from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import DocumentRecord
from colsearcher.retrieval.heat_map import draw_heat_map, region, relevance
from colsearcher.retrieval.indexing import page_record
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.visual.embedder import VisualEmbedder
from colsearcher.retrieval.visual.families import FAMILIES
from colsearcher.retrieval.visual.loading import load_checkpoint

# PaliGemma's processor turns tensors to arrays the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
QUESTION = "Where is the margin of 2025?"
MANY = [family for family in FAMILIES if not family.single]
# Tall, wide and square pages; the boxes are where something is drawn.
PAGES = {
    (200, 300): (0.62, 0.70, 0.95, 0.92),
    (420, 180): (0.55, 0.05, 0.72, 0.40),
    (256, 256): (0.05, 0.60, 0.30, 0.85),
}


def picture(size, box=None):
    image = Image.new("RGB", size, "white")
    if box:
        corners = [fraction * side for fraction, side in zip(box, size * 2, strict=True)]
        ImageDraw.Draw(image).rectangle(corners, fill="black")
    return image


def loaded(family, folder):
    return VisualEmbedder(load_checkpoint(str(save(family, folder)), device="cpu", dtype="fp32"))


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def embedder(family, tmp_path_factory):
    return loaded(family, tmp_path_factory.mktemp(family.name))


@pytest.fixture(scope="module", params=MANY, ids=lambda family: family.name)
def many(request, tmp_path_factory):
    """The embedder of a family with many vectors, which stand somewhere on the page."""
    return loaded(request.param, tmp_path_factory.mktemp(request.param.name))


def test_the_family_is_known_from_the_checkpoint_itself(family, embedder):
    assert embedder.family == family.name
    assert embedder.single is family.single


@pytest.mark.parametrize("size", [(3, 900), (1200, 2)])
def test_a_picture_as_thin_as_a_line_is_a_page_too(many, size):
    (page,) = many.embed_pages([Page("line.png", 1, None, size, picture=picture(size, (0, 0, 1, 0.5)))])
    boxes = page.boxes[~page.special]
    assert len(boxes) and np.isfinite(page.vectors).all()
    assert (boxes >= 0).all() and boxes[:, 2:].max(axis=0) == pytest.approx(1, abs=0.01)


def own_vectors(family):
    """Vectors of the pages and of the question as colpali-engine makes them, one input at a time, without padding."""
    model, processor = build(family)
    with torch.no_grad():
        pages = [model(**processor.process_images([picture(size, box)]))[0] for size, box in PAGES.items()]
        return processor, pages, model(**processor.process_queries([QUESTION]))[0]


def test_scores_through_an_index_are_those_of_colpali_engine(family, embedder, tmp_path):
    processor, pages, query = own_vectors(family)
    score = processor.score_single_vector if family.single else processor.score_multi_vector
    theirs = score([query], pages, device="cpu")[0].numpy()
    manifest = Manifest(embedder.name, embedder.revision, embedder.dim, 0, "pdfium", "never", "", "now", codec="fp16")
    pictures = [
        Page("a.pdf", n, None, (200, 300), picture=picture(size, box)) for n, (size, box) in enumerate(PAGES.items(), 1)
    ]
    embeddings = embedder.embed_pages(pictures)
    asked = embedder.embed_queries([QUESTION])
    with PageIndex.create(tmp_path / "index", manifest) as index, index.writing():
        records = [page_record(page, e) for page, e in zip(pictures, embeddings, strict=True)]
        index.add([DocumentRecord("a.pdf", "a.pdf", "0", len(records))], records)
        found = index.search(asked, 3, ranking="late", recall=1.0)[0].hits
    ours = {hit.page: hit.score * len(asked[0].vectors) for hit in found}
    # The index holds 16 bits of a component.
    assert [ours[n] for n in (1, 2, 3)] == pytest.approx(theirs, abs=2e-3 * max(1, len(asked[0].vectors) / 10))
    exact = [(asked[0].vectors @ e.vectors.T).max(1).sum() for e in embeddings]
    assert exact == pytest.approx(theirs, abs=1e-4)


def test_a_page_s_vectors_do_not_depend_on_what_it_is_batched_with(embedder):
    pictures = [picture(size, box) for size, box in PAGES.items()]
    together = embedder.embed_pictures(pictures)
    for image, found in zip(pictures, together, strict=True):
        alone = embedder.embed_pictures([image])[0]
        np.testing.assert_allclose(found.vectors, alone.vectors, atol=2e-5)
        np.testing.assert_array_equal(found.boxes, alone.boxes)


def test_vectors_have_length_one_and_boxes_lie_on_the_page(embedder):
    for found in embedder.embed_pictures([picture(size) for size in PAGES]):
        np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
        assert (found.boxes >= 0).all() and (found.boxes <= 1).all()
        assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()


@pytest.mark.parametrize("size", PAGES)
def test_patches_tile_the_page(many, size):
    found = many.embed_pictures([picture(size)])[0]
    boxes = found.boxes[~found.special]
    assert len(boxes) > 4
    assert ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum() == pytest.approx(1, abs=1e-4)
    assert len(np.unique(boxes.round(5), axis=0)) == len(boxes)


@pytest.mark.parametrize("size", PAGES)
def test_the_patch_that_changes_with_the_page_stands_where_it_changed(many, size):
    box = PAGES[size]
    blank, drawn = (many.embed_pictures([picture(size, shown)])[0] for shown in (None, box))
    change = np.linalg.norm(drawn.vectors - blank.vectors, axis=1)
    change[blank.special] = 0
    x0, y0, x1, y1 = blank.boxes[change.argmax()]
    assert x0 < box[2] and box[0] < x1 and y0 < box[3] and box[1] < y1


def test_a_heat_map_s_peak_and_the_region_are_where_the_query_s_own_patch_is(many):
    size = (200, 300)
    page = many.embed_pictures([picture(size, PAGES[size])])[0]
    query = many.embed_queries([QUESTION])[0]
    place = int(np.flatnonzero(~page.special)[-3])
    # A question whose word «margin» looks exactly like one patch.
    vectors = query.vectors.copy()
    vectors[[word == "margin" for word in query.words]] = page.vectors[place]
    pointed = type(query)(vectors, query.weights, query.words, query.special, query.text)
    values = relevance(page, pointed)
    np.testing.assert_array_equal(page.boxes[values.argmax()], page.boxes[place])
    x0, y0, x1, y1 = region(page, pointed)
    assert x0 <= page.boxes[place][0] + 1e-4 and page.boxes[place][3] - 1e-4 <= y1 and x0 < x1 and y0 < y1
    assert draw_heat_map(picture(size), page, pointed).size == size


def test_words_of_the_question_are_known_and_the_rest_is_special(many):
    query = many.embed_queries([QUESTION])[0]
    named = [word for word in dict.fromkeys(query.words) if word]
    assert named == ["where", "is", "the", "margin", "of", "2025"]
    assert query.special.any() and not query.special[[word == "margin" for word in query.words]].any()
