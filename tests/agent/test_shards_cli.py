"""Shards as a user has them: made by hand or by `index add --shards`, here or behind `serve-shard`, by subprocess."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from command_line import COLSEARCHER, answer, call
from documents import text_pdf

from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import PageRecord
from colsearcher.indexes.shard_list import shard_of, write_shards
from colsearcher.indexes.shards import open_index

PAGES = {
    "ferry.pdf": ["The ferry to Lindholm leaves at nine in the morning.", "Tickets cost twelve crowns for adults."],
    "garden.pdf": ["Tulips are planted in October, ten centimetres deep.", "Roses need pruning in March."],
    "manual.pdf": ["Part K-40 is replaced by valve V-118.", "The torque for the screws of the valve is 22 Nm."],
    "boat.pdf": ["Dogs travel on the ferry for free.", "The morning boat is full in October."],
}
QUESTION = "Which ferry leaves in the morning in October?"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for name, texts in PAGES.items():
        text_pdf(folder / name, texts)
    return folder


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "index"
    answer("index", "add", corpus, "--index", folder)
    return folder


@pytest.fixture(scope="module")
def sharded(whole, tmp_path_factory):
    """The same pages in two shards, with the same vectors: a model's own differ a little with what it embeds together."""
    folder = tmp_path_factory.mktemp("sharded") / "index"
    write_shards(folder, ["shard-0", "shard-1"])
    with PageIndex.open(whole) as index:
        for i in range(2):
            with PageIndex.create(folder / f"shard-{i}", index.manifest) as shard, shard.writing():
                own = [record for record in index.documents() if shard_of(record.document, 2) == i]
                assert own
                shard.add(own, [copied(index, record.document, n) for record in own for n in (1, 2)])
    return folder


def copied(index, document, number):
    page = index.page(document, number)
    embedding = index.embedding(document, number)
    return PageRecord(document, number, embedding, page.text, page.word_boxes, page.size, page.word_source)


@pytest.fixture
def remote(sharded, tmp_path):
    """The second shard behind a server of its own."""
    command = [COLSEARCHER, "serve-shard", "--index", str(sharded / "shard-1"), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    url = re.search(r"http://\S+", server.stderr.readline())[0]
    (tmp_path / "shard-0").symlink_to(sharded / "shard-0")
    write_shards(tmp_path, ["shard-0", url])
    yield tmp_path, server
    server.kill()
    server.communicate()


def same_hits(one, many):
    for more in ([], ["--filter", "page = 2", "--ranking", "words"]):
        a, b = (answer("search", QUESTION, "--index", index, "-k", 5, *more)["hits"] for index in (one, many))
        assert [hit["address"] for hit in a] == [hit["address"] for hit in b] and a
        assert [hit["score"] for hit in a] == pytest.approx([hit["score"] for hit in b], abs=1e-6)
        assert [(hit["evidence"], hit["text"]) for hit in a] == [(hit["evidence"], hit["text"]) for hit in b]


@pytest.mark.slow
def test_commands_that_read_take_shards_for_an_index(whole, sharded, tmp_path):
    same_hits(whole, sharded)
    one, many = answer("index", "info", "--index", whole), answer("index", "info", "--index", sharded)
    assert [d["document"] for d in one["document_list"]] == [d["document"] for d in many["document_list"]]
    assert (one["pages"], one["vectors"]) == (many["pages"], many["vectors"])
    assert sum(many["shards"].values()) == 8
    assert "shard-1" in call("index", "info", "--index", sharded).stdout
    assert answer("index", "verify", "--index", sharded) == {"ok": True, "faults": [], "pages": 8}
    qa = tmp_path / "qa.jsonl"
    record = {"id": "1", "doc": "garden.pdf", "question": "When are roses pruned?", "answers": ["March"], "evidence_pages": [2]}
    qa.write_text(json.dumps(record) + "\n")
    scores = [answer("eval", "retrieval", "--qa", qa, "--index", index) for index in (whole, sharded)]
    assert scores[0]["rankings"] == scores[1]["rankings"] and scores[1]["recall@1"] == 1.0
    asked = answer("ask", "When are tulips planted?", "--index", sharded)
    assert asked["searches"] and Path(asked["trace"]).is_file()
    call("look", "garden.pdf#p=2", "--query", "roses", "--index", sharded, "-o", tmp_path / "page.png")


def test_a_shard_on_another_machine_ranks_the_same_and_is_missed(whole, remote):
    folder, server = remote
    same_hits(whole, folder)
    server.kill()
    server.wait()
    said = call("search", "roses", "--index", folder, code=2)
    assert said.stdout == "" and "does not answer" in said.stderr and "Traceback" not in said.stderr


def test_commands_that_need_one_piece_say_so(sharded, tmp_path):
    for words in (["index", "rm", "ferry.pdf"], ["index", "compact"], ["index", "tune"], ["serve-shard"]):
        assert "name one of its folders" in call(*words, "--index", sharded, code=2).stderr
    assert "There is no index at" in call("serve-shard", "--index", tmp_path / "none", code=2).stderr
    said = call("serve-shard", "--index", sharded / "shard-0", "--host", "192.0.2.1", code=2).stderr
    assert "Nothing can be served at 192.0.2.1" in said


@pytest.mark.slow
def test_a_cluster_makes_the_index_and_the_shards(corpus, whole, tmp_path):
    with PageIndex.open(whole) as one:
        wanted = one.texts()
    for more in (["--ray"], ["--ray", "local", "--shards", "2"]):
        folder = tmp_path / more[-1]
        command = ["index", "add", corpus, "--index", folder, *more]
        done = call(*command, "--json")
        report = json.loads(done.stdout)
        assert (report["pages_added"], report["problems"], report["index"]["pages"]) == (8, [], 8)
        # Of Ray only a line of its C++ side about actors that may be restarted, which nothing turns off.
        lines = [line for line in done.stderr.splitlines() if not line.startswith("indexing ") and "core_worker.cc" not in line]
        assert len(lines) == 2 and "on a Ray cluster of" in lines[1], done.stderr
        with open_index(folder) as made:
            assert made.texts() == wanted and made.verify() == []
        assert answer("search", QUESTION, "--index", folder)["hits"][0]["document"] == "ferry.pdf"
        again = answer(*command)
        assert (again["pages_added"], again["pages_unchanged"]) == (0, 8)
    assert "holds 2 shards; add documents to them with --shards 2" in call(*command[:5], code=2).stderr


def test_wrong_words_for_a_cluster_are_one_sentence(corpus, whole, sharded, tmp_path):
    for words, sentence in (
        (["--ray", "--index", tmp_path / "x", "--shards", "0"], "--shards is 0"),
        (["--index", tmp_path / "x", "--ray", corpus], "is not the address of a Ray cluster"),
        (["--index", sharded], "holds 2 shards; add documents to them with --shards 2"),
        (["--index", sharded, "--shards", "3"], "holds 2 shards, not 3"),
        (["--index", whole, "--shards", "2"], "is of one piece"),
    ):
        said = call("index", "add", corpus, *words, code=2)
        assert said.stdout == "" and sentence in said.stderr and "Traceback" not in said.stderr
    assert not (tmp_path / "x").exists()
