"""A visual checkpoint from a folder, used by name in every command that looks at pages."""

import pytest
from command_line import answer, call, complaint, write_corpus
from PIL import Image
from tiny_checkpoints import save

from colsearcher.retrieval.visual.families import FAMILIES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    family = next(family for family in FAMILIES if family.name == "ColQwen2.5")
    return save(family, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def index(checkpoint, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("visual") / "index"
    done = call("index", "add", corpus, "--index", folder, "--embedder", checkpoint, "--codec", "2bit")
    assert "ColQwen2.5 on cpu" in done.stderr
    return folder


def test_a_search_finds_pages_and_says_where_on_them(index, checkpoint):
    found = answer("search", "When does the ferry leave?", "--index", index, "-k", "4", "--embedder", checkpoint)
    assert len(found["hits"]) == 4 and found["plan"]["codec"] == "2bit"
    assert all(place.startswith(hit["address"] + "&box=") for hit in found["hits"] for place in hit["evidence"])
    info = answer("index", "info", "--index", index)
    assert info["manifest"]["embedder"] == str(checkpoint) and info["manifest"]["block_rows"] == "0"


def test_a_heat_map_of_one_word_of_the_question(index, tmp_path):
    picture = tmp_path / "seen.png"
    asked = ("look", "ferry.pdf#p=1", "--index", index, "--query", "When does the ferry leave?")
    done = call(*asked, "--word", "ferry", "-o", picture)
    with Image.open(picture) as seen:
        assert max(seen.size) == 1600
    assert "ferry" in done.stderr


def test_an_index_insists_on_its_embedder_and_an_unknown_one_is_named(index, corpus, tmp_path):
    assert "was made by embedder" in complaint("index", "add", corpus, "--index", index, "--embedder", "minilm")
    assert answer("index", "add", corpus, "--index", index)["pages_added"] == 0  # it is the index's own unless another is named
    other = complaint("index", "add", corpus, "--index", tmp_path / "other", "--embedder", "colqwen")
    assert "There is no embedder «colqwen»" in other
