import doctest
import json
import socket
import threading

import numpy as np
import pytest
from fake_pages import DIM, MANIFEST, document, page, query

from colsearcher.indexes import lexical, shard_list, shard_wire
from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import QueryEmbedding
from colsearcher.indexes.shard_list import read_shards, shard_of, write_shards
from colsearcher.indexes.shard_server import ShardServer
from colsearcher.indexes.shard_wire import from_json, to_json
from colsearcher.indexes.shards import ShardedIndex, open_index

WORDS = "tulip rose ferry crown valve torque screw pump norway margin north harbour tide mast sail rope".split()
QUESTIONS = (
    "tulip and roses",
    "what torque has the valve screw",
    "margin on page 2",
    "the last page of the ferry",
    "sail rope",
)
RANKINGS = ("default", "late", "words")


def test_doctests():
    assert doctest.testmod(shard_wire).failed == doctest.testmod(shard_list).failed == doctest.testmod(lexical).failed == 0


def corpus(documents=30, seed=0):
    """Documents of unequal length whose pages have unequal numbers of words, some of them often on a page."""
    rng = np.random.default_rng(seed)
    for d in range(documents):
        name = f"{'sub/' if d % 3 else ''}d{d}.pdf"
        pages = int(rng.integers(1, 6))
        # The shares of words differ from document to document, so that shards' own statistics would be off.
        chances = rng.dirichlet(np.full(len(WORDS), 0.3))
        texts = [" ".join(rng.choice(WORDS, size=int(rng.integers(0, 60)), p=chances)) for _ in range(pages)]
        records = [page(name, n, text=text, rows=int(rng.integers(0, 12))) for n, text in enumerate(texts, 1)]
        yield document(name, pages, author=f"author {d % 4}"), records


def fill(folder, documents, manifest=MANIFEST):
    with PageIndex.create(folder, manifest) as index, index.writing():
        for record, pages in documents:
            index.add([record], pages)


def queries():
    rng = np.random.default_rng(7)
    made = []
    for text in QUESTIONS:
        words = tuple(text.split())
        vectors = rng.normal(size=(len(words), DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        made.append(QueryEmbedding(vectors, np.ones(len(words), np.float32), words, np.zeros(len(words), bool), text))
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "index"
    fill(folder, corpus())
    return folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded") / "index"
    write_shards(folder, [f"shard-{i}" for i in range(4)])
    for i in range(3):
        fill(folder / f"shard-{i}", [(record, pages) for record, pages in corpus() if shard_of(record.document, 3) == i])
    fill(folder / "shard-3", [])
    return folder


@pytest.fixture
def remote(sharded, tmp_path):
    """The same shards, two of them behind HTTP."""
    servers, names = [], ["shard-0", "shard-3"]
    for name in ("shard-1", "shard-2"):
        server = ShardServer(PageIndex.open(sharded / name), "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        names.append(f"http://127.0.0.1:{server.server_port}")
    (tmp_path / "index").mkdir()
    for name in ("shard-0", "shard-3"):
        (tmp_path / "index" / name).symlink_to(sharded / name)
    write_shards(tmp_path / "index", names)
    yield tmp_path / "index"
    for server in servers:
        server.shutdown()
        server.server_close()
        server.index.close()


FILTERS = (None, "page < 3", "document LIKE 'sub/%' AND metadata->>'author' <> 'author 2'", "page > 99")


@pytest.mark.parametrize("place", ["sharded", "remote"])
@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("filter", FILTERS)
def test_the_ranking_is_that_of_one_index(whole, place, ranking, filter, request):
    with PageIndex.open(whole) as one, open_index(request.getfixturevalue(place)) as many:
        for k in (3, 50, 1000):
            wanted = one.search(queries(), k, filter=filter, ranking=ranking)
            found = many.search(queries(), k, filter=filter, ranking=ranking)
            for a, b in zip(wanted, found, strict=True):
                assert [hit.address for hit in a.hits] == [hit.address for hit in b.hits]
                assert [hit.metadata for hit in a.hits] == [hit.metadata for hit in b.hits]
                assert [hit.score for hit in a.hits] == pytest.approx([hit.score for hit in b.hits], abs=1e-9)
                for one_hit, other in zip(a.hits, b.hits, strict=True):
                    assert dict(one_hit.parts) == pytest.approx(dict(other.parts), abs=1e-9)
                assert a.plan["pages"] == b.plan["pages"] and a.plan["vectors"] == b.plan["vectors"]
    assert filter == FILTERS[-1] or wanted[0].hits


def test_the_shards_own_statistics_would_give_another_ranking(whole, sharded):
    """Else the test above would prove nothing."""
    with PageIndex.open(whole) as one, PageIndex.open(sharded / "shard-0") as part:
        for ranking in RANKINGS:
            alone = {hit.address: hit.score for hit in part.search(queries(), 99, ranking=ranking)[1].hits}
            together = {hit.address: hit.score for hit in one.search(queries(), 1000, ranking=ranking)[1].hits}
            assert max(abs(score - together[address]) for address, score in alone.items()) > 1e-3


def test_scores_stay_exact_after_pages_were_removed_and_replaced(tmp_path):
    documents = list(corpus(12))
    with PageIndex.create(tmp_path / "one", MANIFEST) as one:
        write_shards(tmp_path / "many", ["a", "b"])
        halves = [PageIndex.create(tmp_path / "many" / name, MANIFEST) for name in "ab"]
        changed = document("d3.pdf", 1, sha="2"), [page("d3.pdf", 1, text="sail " * 40)]
        for index, own in ((one, documents), (halves[0], documents[::2]), (halves[1], documents[1::2])):
            with index.writing():
                for record, pages in own:
                    index.add([record], pages)
                gone = own[2][0].document if index is not one else None
                index.remove([gone] if gone else [documents[4][0].document, documents[5][0].document])
                if index.holds("d3.pdf"):
                    index.add([changed[0]], changed[1])
        for half in halves:
            half.close()
        with open_index(tmp_path / "many") as many:
            for a, b in zip(one.search(queries(), 99), many.search(queries(), 99), strict=True):
                assert [(hit.address, pytest.approx(hit.score, abs=1e-9)) for hit in a.hits] == [
                    (hit.address, hit.score) for hit in b.hits
                ]


@pytest.mark.parametrize("place", ["sharded", "remote"])
def test_everything_else_is_that_of_one_index(whole, place, request):
    with PageIndex.open(whole) as one, open_index(request.getfixturevalue(place)) as many:
        assert isinstance(many, ShardedIndex)
        assert (one.pages(), one.texts(), one.documents()) == (many.pages(), many.texts(), many.documents())
        for question in queries():
            assert one.query_weights(question) == pytest.approx(many.query_weights(question), abs=1e-12)
        assert one.word_weight("tulip") == pytest.approx(many.word_weight("tulip"), abs=1e-12)
        assert many.holds("d0.pdf") and not many.holds("none.pdf")
        for name, number in one.pages()[:9]:
            a, b = one.embedding(name, number), many.embedding(name, number)
            assert np.array_equal(a.vectors, b.vectors) and np.array_equal(a.boxes, b.boxes)
            assert one.page(name, number).text == many.page(name, number).text
            assert one.page(name, number).size == many.page(name, number).size
        for method in (one.info, many.info):
            assert method()["pages"] == len(one.pages())
        assert one.info()["documents"] == many.info()["documents"] and many.verify() == []
        for asked in (("none.pdf", 1), ("d0.pdf", 99)):
            with pytest.raises(UserError) as wanted:
                one.page(*asked)
            with pytest.raises(UserError) as said:
                many.page(*asked)
            assert str(said.value) == str(wanted.value)


@pytest.mark.parametrize("place", ["sharded", "remote"])
def test_wrong_questions_are_refused_like_by_one_index(place, request):
    with open_index(request.getfixturevalue(place)) as many:
        for wrong in ({"filter": "colour = 'red'"}, {"k": 0}, {"recall": 2.0}):
            with pytest.raises(UserError):
                many.search(queries(), **wrong)
        with pytest.raises(UserError, match="asks about other pages"):
            many.search(queries(), filter="page = (SELECT max(page) FROM pages)")
        many.search(queries(), filter="document <> 'select.pdf'")


def test_a_shard_that_does_not_answer_is_an_error_and_never_a_shorter_result(sharded, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "shard-0").symlink_to(sharded / "shard-0")
    write_shards(tmp_path, ["shard-0", url])
    with pytest.raises(IndexProblem, match=f"The shard at {url} does not answer .*start it there"):
        open_index(tmp_path)


def test_a_shard_that_goes_away_is_an_error_at_the_next_search(sharded, tmp_path):
    with PageIndex.open(sharded / "shard-1") as served:
        server = ShardServer(served, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "shard-0").symlink_to(sharded / "shard-0")
        write_shards(tmp_path, ["shard-0", f"http://127.0.0.1:{server.server_port}"])
        with open_index(tmp_path) as many:
            assert many.search(queries(), 3)[0].hits
            server.shutdown()
            server.server_close()
            with pytest.raises(IndexProblem, match="does not answer"):
                many.search(queries(), 3)


def test_something_else_that_answers_is_said_to_be_no_shard(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\n<html>")

        threading.Thread(target=answer, daemon=True).start()
        write_shards(tmp_path, [f"http://127.0.0.1:{listener.getsockname()[1]}"])
        with pytest.raises(IndexProblem, match="is not a shard of ColSearcher"):
            open_index(tmp_path)


def test_shards_of_different_make_are_refused(tmp_path):
    write_shards(tmp_path, ["a", "b"])
    fill(tmp_path / "a", [])
    fill(tmp_path / "b", [], Manifest("hash", "s" * 64, DIM, 0, "pdfium", "auto", "none", "2026-01-01T00:00:00+00:00"))
    with pytest.raises(IndexProblem, match="another revision than shard a"):
        open_index(tmp_path)


def test_a_document_in_two_shards_is_found_out(tmp_path):
    write_shards(tmp_path, ["a", "b"])
    for name in "ab":
        fill(tmp_path / name, [(document("x.pdf", 1), [page("x.pdf", 1, text="tulip")])])
    with open_index(tmp_path) as many:
        with pytest.raises(IndexProblem, match=r"«x.pdf» is in two shards"):
            many.search([query()])
        assert many.verify() == ["«x.pdf» is in the shards a and b"]


def test_empty_shards_are_said_so(tmp_path):
    write_shards(tmp_path, ["a"])
    fill(tmp_path / "a", [])
    with open_index(tmp_path) as many:
        with pytest.raises(UserError, match="hold no pages"):
            many.search([query()])
        with pytest.raises(UserError, match="hold no pages"):
            many.require_pages()


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("[", "cannot be read"),
        ('{"shards": []}', "names no shards"),
        ('{"format": 1, "shards": ["a", "a"]}', "twice"),
        ('{"format": 9, "shards": ["a"]}', "has format 9"),
        ('{"format": 1, "shards": ["ftp://x"]}', "is not the address of a shard"),
        ('{"format": 1, "shards": ["http://x"]}', "on which port"),
        ('{"format": 1, "shards": ["a"]}', "There is no index at"),
    ],
)
def test_a_wrong_list_of_shards_is_one_sentence(written, sentence, tmp_path):
    (tmp_path / "shards.json").write_text(written)
    with pytest.raises(UserError, match=sentence):
        open_index(tmp_path)


def test_the_list_of_shards_round_trips(tmp_path):
    write_shards(tmp_path / "new", ["shard-0", "http://machine:8000"])
    assert read_shards(tmp_path / "new") == ["shard-0", "http://machine:8000"]


def test_values_come_back_over_the_wire_as_they_were():
    one = query(3, "tulip")
    back = from_json(json.loads(json.dumps(to_json((one, {"x": [1.1, float("inf")]}, np.zeros((0, 4), np.float16))))))
    assert np.array_equal(back[0].vectors, one.vectors) and back[0].words == one.words and back[0].text == "tulip"
    assert back[1] == {"x": [1.1, float("inf")]}
    assert back[2].shape == (0, 4) and back[2].dtype == np.float16
    for wrong in ({"a": 1, "b": 2}, {"os.system": {}}, {"array": {"dtype": "|O", "shape": [1], "base64": "AAAA"}}):
        with pytest.raises(ValueError):
            from_json(wrong)
    with pytest.raises(TypeError):
        to_json(object())
