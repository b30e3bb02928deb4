import json

import numpy as np
import pytest
from command_line import answer, call, complaint, write_corpus

from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import PageEmbedding, Places, QueryEmbedding
from colsearcher.retrieval.visual.patches import grid_boxes
from colsearcher.training.pointing import point

QUERY = QueryEmbedding(np.eye(4, dtype=np.float32)[:1], np.ones(1, np.float32), ("ring",), np.zeros(1, bool), "ring")


def page(*similarities, places=None):
    """A page of 2 x 2 patches and a special token that matches best of all."""
    vectors = np.zeros((len(similarities) + 1, 4), dtype=np.float32)
    vectors[:, 0] = [*similarities, 1]
    boxes = grid_boxes(2, 2)[: len(similarities)]
    special = np.arange(len(vectors)) == len(similarities)
    return PageEmbedding(vectors, np.concatenate([boxes, [[0, 0, 1, 1]]]).astype(np.float32), special, places)


def test_the_peak_is_in_the_box_or_not_and_chance_is_the_boxs_share_of_places():
    lower_left = (0.0, 0.5, 0.4, 1.0)
    assert point(page(0.1, 0.2, 0.9, 0.3), QUERY, lower_left) == (1, 0.25)
    assert point(page(0.9, 0.2, 0.1, 0.3), QUERY, lower_left) == (0, 0.25)
    assert point(page(0.1, 0.2, 0.3, 0.9), QUERY, (0, 0.5, 1, 1)) == (1, 0.5)
    assert point(page(0.1, 0.2, 0.3, 0.9), QUERY, (0.8, 0.8, 1, 1)) == (0, 0)  # no centre in the box


def test_of_places_that_one_pooled_vector_stands_for_the_share_in_the_box_counts():
    pooled = page(0.9, 0.2, places=Places(grid_boxes(2, 2), np.array([1, 0, 0, 1])))
    assert point(pooled, QUERY, (0, 0.5, 1, 1)) == (0.5, 0.5)
    assert point(pooled, QUERY, (0, 0, 0.5, 0.5)) == (0, 0.25)


def test_a_page_where_nothing_stands_points_nowhere():
    assert point(page(), QUERY, (0, 0, 1, 1)) == (0, 0)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pointing")
    (folder / "corpus").mkdir()
    call("index", "add", write_corpus(folder / "corpus"), "--index", folder / "index", "--ocr", "never")
    return folder / "index"


def questions(path, index, *asked):
    """A file of questions (document, page, text, words, the word of the page that the box is around)."""
    lines = []
    with PageIndex.open(index) as opened:
        for document, number, text, words, boxed in asked:
            stored = opened.page(document, number)
            x0, y0, x1, y1 = stored.word_boxes[stored.text.split().index(boxed)].tolist()
            address = f"{document}#p={number}&box={x0 - 0.001:.4f},{y0 - 0.001:.4f},{x1 + 0.001:.4f},{y1 + 0.001:.4f}"
            box = {"address": address, **({"words": words} if words else {})}
            record = {"id": len(lines), "doc": document, "question": text, "answers": [boxed], "evidence_pages": [number]}
            lines.append(json.dumps({**record, "boxes": [box] if boxed else []}))
    path.write_text("\n".join(lines))
    return path


def test_eval_boxes_as_a_user_types_it(index, tmp_path):
    qa = questions(
        tmp_path / "qa.jsonl",
        index,
        ("ferry.pdf", 1, "Does the ferry leave at nine?", "ferry", "ferry"),
        ("ferry.pdf", 1, "Does the ferry leave at nine?", "nine", "nine"),
        ("garden.pdf", 2, "Do roses need pruning?", "roses", "March."),
        ("garden.pdf", 1, "When are tulips planted?", "", "Tulips"),
    )
    found = answer("eval", "boxes", "--qa", qa, "--index", index)
    assert [box["hit"] for box in found["boxes"][:3]] == [1, 1, 0]
    assert found["boxes"][0]["words"] == "ferry" and found["boxes"][3]["words"] == "" and found["questions"] == 4
    assert found["pointing"] == np.mean([box["hit"] for box in found["boxes"]]) >= 0.5
    low, high = found["interval"]
    assert 0 <= low <= found["pointing"] <= high <= 1 and 0.05 < found["chance"] < 0.3
    printed = call("eval", "boxes", "--qa", qa, "--index", index, "--limit", 2).stdout
    assert printed.startswith("pointing 1.000 (1.000 to 1.000), chance 0.0") and "2 boxes of 2 questions" in printed


def test_what_cannot_be_scored_is_refused(index, tmp_path):
    plain = tmp_path / "plain.jsonl"
    record = {"id": 1, "doc": "ferry.pdf", "question": "Nine?", "answers": ["x"], "evidence_pages": [1]}
    plain.write_text(json.dumps(record))
    assert "No question has boxes" in complaint("eval", "boxes", "--qa", plain, "--index", index)
    elsewhere = {**record, "doc": "no.pdf", "boxes": [{"address": "no.pdf#p=1&box=0,0,1,1"}]}
    plain.write_text(json.dumps(elsewhere))
    assert "1 gold pages are not in the index" in complaint("eval", "boxes", "--qa", plain, "--index", index)
