"""Files of passages: every shape of a line, addresses, and an index that goes on where it was stopped."""

import doctest
import json

import pytest
from fake_embedder import HashEmbedder

from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.retrieval import passages
from colsearcher.retrieval.passages import index_passages, read_passages
from colsearcher.retrieval.searcher import Searcher


def test_doctests():
    assert doctest.testmod(passages).failed == 0


def write(path, *records):
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    return path


def test_every_shape_of_a_line_is_a_passage(tmp_path):
    read = read_passages(
        write(
            tmp_path / "p.jsonl",
            {"id": "9", "title": "Tulip", "text": "Planted in\nOctober."},
            {"title": "Rose", "sentences": ["Pruned", " in March."]},
            {"id": "a1", "text": "No title."},
            {"id": "7", "contents": '"Ferry"\nLeaves at nine.'},
            {"title": "Tulip", "text": "Ten centimetres deep."},
            {"title": "Tulip", "text": "Planted in October."},
        )
    )
    assert read.documents == {
        "Tulip": ("Tulip. Planted in October.", "Tulip. Ten centimetres deep."),
        "Rose": ("Rose. Pruned in March.",),
        "a1": ("No title.",),
        "Ferry": ("Ferry. Leaves at nine.",),
    }
    assert read.passages == 5


def test_the_paragraphs_of_questions_are_passages_one_for_a_title(tmp_path):
    read = read_passages(
        write(
            tmp_path / "qa.jsonl",
            {
                "question": "?",
                "context": [{"title": "Tulip", "sentences": ["A.", " B."]}, {"title": "Rose", "sentences": ["C."]}],
            },
            {"question": "?", "context": [["Tulip", ["A.", " B."]], ["Tulip", ["D."]], ["No\u00a0 1", ["E."]]]},
        )
    )
    assert read.documents == {"Tulip": ("Tulip. A. B. D.",), "Rose": ("Rose. C.",), "No\u00a0 1": ("No 1. E.",)}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "p.jsonl:1 is no passage"),
        ("[1]", "p.jsonl:1 is no passage"),
        ('{"text": "x"}', "'title'"),
        ('{"title": "x"}', "'sentences'"),
        ('{"title": 5, "text": "x"}', "title is not text"),
        ('{"title": "x", "sentences": "x"}', "sentences is not a list"),
        ('{"context": [["x"]]}', "is no passage"),
        ("", "holds no passages"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, sentence):
    (tmp_path / "p.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=sentence):
        read_passages(tmp_path / "p.jsonl")


def test_an_index_of_passages_is_made_once_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(passages, "_BATCH", 2)
    documents = {f"t{i}": (f"word{i} alpha", f"other{i} beta") for i in range(5)}
    told = []

    def stop_in_the_middle(done, all):
        told.append((done, all))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_passages(tmp_path / "i", documents, HashEmbedder(), stop_in_the_middle)
    embedder = HashEmbedder()
    with index_passages(tmp_path / "i", documents, embedder, lambda done, all: told.append((done, all))) as index:
        hits = Searcher(index, embedder).search(["other3"], 3)[0].hits
    assert told == [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)] and embedder.pages_embedded == 6
    assert str(hits[0].address) == "t3#p=2" and len({hit.address for hit in hits}) == 3
    with index_passages(tmp_path / "i", documents, embedder):
        assert embedder.pages_embedded == 6
    embedder.name = "another"
    with pytest.raises(IndexProblem):
        index_passages(tmp_path / "i", documents, embedder)
