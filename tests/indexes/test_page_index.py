import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from fake_pages import DIM, MANIFEST, document, page, query

from colsearcher.indexes import catalog, lexical
from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.maxsim import SCORE_ERROR, page_score
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.writer import Writer


@pytest.fixture
def index(tmp_path):
    with PageIndex.create(tmp_path / "index", MANIFEST) as index:
        yield index


def fill(index, name, pages, **more):
    with index.writing():
        index.add([document(name, pages, **more)], [page(name, n) for n in range(1, pages + 1)])


def found(index, k=50, **more):
    return [(hit.document, hit.page) for hit in index.search([query()], k, **more)[0].hits]


def test_search_gives_every_page_its_definition_in_order(index):
    fill(index, "a.pdf", 5)
    fill(index, "b.pdf", 9)
    hits = index.search([query(3)], 50, ranking="late")[0].hits
    q = query(3)
    expected = {
        (name, n): page_score(page(name, n).embedding.vectors.astype(np.float16), q.vectors, q.weights / q.weights.sum())
        for name, count in (("a.pdf", 5), ("b.pdf", 9))
        for n in range(1, count + 1)
    }
    assert {(h.document, h.page): h.score for h in hits} == pytest.approx(expected, abs=SCORE_ERROR)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert all(h.score == pytest.approx(sum(h.parts.values())) for h in hits)


def test_a_score_is_the_same_bits_whatever_else_is_stored_or_asked(index, tmp_path):
    fill(index, "a.pdf", 3)
    alone = {h.page: h.score for h in index.search([query(1)], 3, ranking="late")[0].hits}
    with PageIndex.create(tmp_path / "other", MANIFEST) as other:
        fill(other, "0.pdf", 40)
        fill(other, "a.pdf", 3)
        batch = other.search([query(9, t=7), query(1), query(8)], 43, ranking="late")[1].hits
    assert {h.page: h.score for h in batch if h.document == "a.pdf"} == alone


def test_equal_scores_are_ordered_by_document_and_page(index):
    with index.writing():
        for name in ("b.pdf", "a.pdf"):
            index.add([document(name, 12)], [page(name, n, seed=1) for n in (11, 2, 12, 1, *range(3, 11))])
    assert found(index, 14) == [("a.pdf", n) for n in range(1, 13)] + [("b.pdf", 1), ("b.pdf", 2)]


def test_a_document_is_replaced_only_when_its_new_version_is_complete(index):
    fill(index, "a.pdf", 3)
    with index.writing():
        index.add([document("a.pdf", 2, sha="2")], [page("a.pdf", 1, seed=5)])
        assert len(index.pages()) == 3 and index.info()["incomplete_documents"] == 1
        assert index.documents()[0].sha256 == "1" * 64
        index.add([document("a.pdf", 2, sha="2")], [page("a.pdf", 2, seed=6)])
    assert index.pages() == [("a.pdf", 1), ("a.pdf", 2)]
    assert index.documents()[0].sha256 == "2" * 64
    assert index.verify() == []


def test_going_back_to_the_first_version_leaves_nothing_behind(index):
    fill(index, "a.pdf", 2)
    with index.writing():
        index.add([document("a.pdf", 4, sha="2")], [page("a.pdf", 1, seed=5)])
        index.add([document("a.pdf", 2)], [])
    assert index.info()["incomplete_documents"] == 0
    assert len(index.pages()) == 2


def test_a_first_version_is_seen_while_it_is_being_added(index):
    with index.writing():
        index.add([document("a.pdf", 9)], [page("a.pdf", 4)])
    assert found(index) == [("a.pdf", 4)]
    assert index.stored_pages(document("a.pdf", 9)) == {4: None}
    assert index.stored_pages(document("a.pdf", 9, sha="2")) == {}


def test_storing_a_page_twice_keeps_one(index):
    with index.writing():
        for _ in range(2):
            index.add([document("a.pdf", 2)], [page("a.pdf", 1, text="seven seals")])
    assert index.pages() == [("a.pdf", 1)]
    assert index.texts() == [("a.pdf", 1, "seven seals")]


def test_removing_and_compacting_change_no_other_page(index):
    fill(index, "a.pdf", 4)
    with index.writing():
        index.add([document("b.pdf", 2), document("c.pdf", 2)], [page(n, i) for n in ("b.pdf", "c.pdf") for i in (1, 2)])
    before = {(h.document, h.page): h.score for h in index.search([query()], 50)[0].hits}
    vectors = index.embedding("c.pdf", 2)
    with index.writing():
        assert index.remove(["b.pdf"]) == 2
        assert index.info()["vectors_unused"] == 14
        report = index.compact()
    assert report["segments_after"] == 1 and report["bytes_after"] < report["bytes_before"]
    assert index.info()["vectors_unused"] == 0
    after = {(h.document, h.page): h.score for h in index.search([query()], 50)[0].hits}
    assert after == {place: score for place, score in before.items() if place[0] != "b.pdf"}
    kept = index.embedding("c.pdf", 2)
    assert (kept.vectors == vectors.vectors).all() and (kept.boxes == vectors.boxes).all()
    assert index.verify() == []


def test_a_reader_keeps_its_view_while_another_connection_compacts(index):
    fill(index, "a.pdf", 4)
    fill(index, "b.pdf", 4)
    first = found(index)
    with PageIndex.open(index.folder) as other, other.writing():
        other.remove(["a.pdf"])
        other.compact()
    assert found(index) == [place for place in first if place[0] == "b.pdf"]


def test_a_reader_never_sees_another_segments_vectors_under_a_reused_id(index):
    fill(index, "keep.pdf", 2)
    fill(index, "old.pdf", 3)
    found(index)
    with PageIndex.open(index.folder) as other, other.writing():
        other.remove(["old.pdf"])
        other.add([document("new.pdf", 3)], [page("new.pdf", n) for n in (1, 2, 3)])
    with PageIndex.open(index.folder) as fresh:
        expected = [(h.document, h.page, h.score) for h in fresh.search([query()], 9)[0].hits]
    assert [(h.document, h.page, h.score) for h in index.search([query()], 9)[0].hits] == expected


def test_compacting_refuses_to_hide_a_damaged_segment(index):
    fill(index, "a.pdf", 2)
    path = next((index.folder / "segments").glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(IndexProblem, match=r"damaged.*a\.pdf"), index.writing():
        index.compact()
    assert len(index.verify()) == 1


def test_removing_an_unknown_document_removes_nothing(index):
    fill(index, "a.pdf", 1)
    with pytest.raises(UserError, match=r"no document «b\.pdf»"), index.writing():
        index.remove(["a.pdf", "b.pdf"])
    assert len(index.pages()) == 1


@pytest.mark.parametrize(
    ("sql", "expected"),
    [("page = 2", 2), ("document = 'a.pdf'", 3), ("metadata->>'author' = 'Ada' AND page < 3", 2), ("1 = 0", 0), ("1", 5),
     ("blank -- everything after a comment", 0)],
)  # fmt: skip
def test_a_filter_is_applied_before_scoring(index, sql, expected):
    fill(index, "a.pdf", 3, author="Ada")
    fill(index, "b.pdf", 2)
    result = index.search([query()], 50, filter=sql)[0]
    assert len(result.hits) == result.plan["pages"] == expected


@pytest.mark.parametrize(
    "sql", ["colour = 3", "page =", "1); DELETE FROM page; --", "load_extension('x')", "1) UNION SELECT 1"]
)
def test_a_filter_that_is_not_a_plain_expression_is_refused(index, sql):
    fill(index, "a.pdf", 2)
    with pytest.raises(UserError, match="is not understood"):
        index.search([query()], filter=sql)
    assert len(index.pages()) == 2
    fill(index, "b.pdf", 1)


def test_words_count_beside_vectors(index):
    with index.writing():
        index.add(
            [document("a.pdf", 3)],
            [
                page("a.pdf", n, seed=1, text=t)
                for n, t in ((1, "harbour dues"), (2, "net margin rose"), (3, "margins of error"))
            ],
        )
    hits = index.search([query(1, text="What was the net margin?")], 3)[0].hits
    assert [hit.page for hit in hits] == [2, 3, 1]  # «margins» shares its stem, «harbour dues» nothing
    assert hits[0].parts["words"] > hits[1].parts["words"] > hits[2].parts["words"] == 0
    assert index.search([query(1, text='"net OR (')], 1)[0].hits[0].page == 2
    said = index.search([query(1, text="net margin"), query(1, text="lighthouse")], 3, ranking="words")
    assert [hit.page for hit in said[0].hits] == [2, 3] and not said[1].hits


def test_words_alone_count_however_common_they_are(index, monkeypatch):
    monkeypatch.setattr(lexical, "COMMON_PAGES", 1)
    with index.writing():
        index.add([document("a.pdf", 3)], [page("a.pdf", n, text="harbour dues" if n > 1 else "tulips") for n in (1, 2, 3)])
    asked = query(1, text="What are the harbour dues?")
    assert [hit.page for hit in index.search([asked], 3, ranking="words")[0].hits] == [2, 3]
    assert not any(hit.parts["words"] for hit in index.search([asked], 3)[0].hits)


def test_blank_and_unreadable_pages_are_kept_and_never_found(index):
    with index.writing():
        index.add(
            [document("a.pdf", 3)],
            [page("a.pdf", 1), page("a.pdf", 2, rows=0, blank=True), page("a.pdf", 3, rows=0, problem="took over 60 s")],
        )
    assert found(index) == [("a.pdf", 1)]
    assert index.info()["problems"] == [{"document": "a.pdf", "page": 3, "reason": "took over 60 s"}]
    assert index.page("a.pdf", 2).blank
    assert len(index.embedding("a.pdf", 2).vectors) == 0
    assert index.documents()[0].pages == 3 and index.info()["incomplete_documents"] == 0


def test_words_that_do_not_fit_their_boxes_are_named(index):
    with index.writing():
        index.add([document("a.pdf", 2)], [page("a.pdf", 1, text="two words"), page("a.pdf", 2, text="three more words")])
    assert index.verify() == []
    with sqlite3.connect(index.folder / "catalog.sqlite") as db:
        db.execute("UPDATE page SET word_boxes = zeroblob(16) WHERE number = 2")
    assert index.verify() == ["catalog: the words of a.pdf page 2 do not fit their boxes; remove and add again: a.pdf."]


def test_faults_are_found_and_named(index):
    fill(index, "a.pdf", 2)
    assert index.verify() == []
    path = next((index.folder / "segments").glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "checksum" in index.verify()[0] and "a.pdf" in index.verify()[0]
    path.write_bytes(data[:-5])
    with PageIndex.open(index.folder) as again, pytest.raises(IndexProblem, match="damaged"):
        again.search([query()])
    path.unlink()
    assert "missing" in index.verify()[0]


def test_what_a_killed_writer_left_is_swept(index):
    fill(index, "a.pdf", 1)
    stray = index.folder / "segments" / "stray.seg"
    stray.write_bytes(b"half a segment")
    fill(index, "b.pdf", 1)
    assert not stray.exists() and len(index.pages()) == 2


def test_an_interrupt_at_the_end_of_a_commit_takes_nothing_away(index, monkeypatch):
    @contextmanager
    def interrupted(db):
        with transaction(db) as open_db:
            yield open_db
        raise KeyboardInterrupt

    transaction = catalog.transaction
    fill(index, "a.pdf", 1)
    monkeypatch.setattr(catalog, "transaction", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(index, "b.pdf", 1)
    monkeypatch.undo()
    assert index.verify() == [] and found(index) == [("a.pdf", 1), ("b.pdf", 1)]

    def broken(writer, segment):
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "insert_segment", broken)
    with pytest.raises(KeyboardInterrupt):
        fill(index, "c.pdf", 1)
    assert len(list((index.folder / "segments").glob("*.seg"))) == 2, "what was not committed is gone"


def test_opening_what_is_not_there(tmp_path):
    with pytest.raises(IndexProblem, match="There is no index at"):
        PageIndex.open(tmp_path / "none")
    (tmp_path / "catalog.sqlite").write_text("this is not a database, it is a text file of some length" * 20)
    with pytest.raises(IndexProblem, match="cannot be read as an index"):
        PageIndex.open(tmp_path)


def test_removing_a_document_named_twice_removes_it_once(index):
    fill(index, "a.pdf", 2)
    with index.writing():
        assert index.remove(["a.pdf", "a.pdf"]) == 2


def test_creating_twice_is_refused(index):
    with pytest.raises(UserError, match="holds an index already"):
        PageIndex.create(index.folder, MANIFEST)


def test_another_format_is_refused(index):
    with sqlite3.connect(index.folder / "catalog.sqlite") as db:
        db.execute("UPDATE manifest SET value = '99' WHERE key = 'format'")
    db.close()
    with pytest.raises(IndexProblem, match="has format 99"):
        PageIndex.open(index.folder)


def test_another_embedder_or_revision_is_one_sentence(index):
    index.manifest.require_embedder("hash", "r" * 64)
    with pytest.raises(IndexProblem, match="made by embedder hash, not by minilm"):
        index.manifest.require_embedder("minilm", "r" * 64)
    with pytest.raises(IndexProblem, match="revision"):
        index.manifest.require_embedder("hash", "s" * 64)


def test_an_empty_index_and_a_wrong_k_are_refused(index):
    with pytest.raises(UserError, match="holds no pages"):
        index.search([query()])
    fill(index, "a.pdf", 1)
    with pytest.raises(UserError, match="k is 0"):
        index.search([query()], 0)


def test_a_page_that_is_not_there_is_named(index):
    fill(index, "a.pdf", 2)
    with pytest.raises(UserError, match="pages 1 to 2; page 3"):
        index.page("a.pdf", 3)
    with pytest.raises(UserError, match=r"no document «b\.pdf»"):
        index.page("b.pdf", 1)


_HOLD_LOCK = """
import pathlib, sys
from colsearcher.indexes.page_index import PageIndex
with PageIndex.open(pathlib.Path(sys.argv[1])) as index, index.writing():
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_told_to_wait(index):
    command = [sys.executable, "-c", _HOLD_LOCK, str(index.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(IndexProblem, match="Another process is changing"), index.writing():
            pass
        other.kill()
    fill(index, "a.pdf", 1)


def test_vectors_of_another_dimension_are_refused(index):
    wrong = page("a.pdf", 1)
    object.__setattr__(wrong, "embedding", type(wrong.embedding)(np.ones((2, DIM + 1)), np.zeros((2, 4)), np.zeros(2, bool)))
    with pytest.raises(ValueError, match="dimensions"), index.writing():
        index.add([document("a.pdf", 1)], [wrong])
    assert index.pages() == []


@pytest.mark.parametrize("codec", ["int8", "4bit", "2bit", "1bit"])
@pytest.mark.parametrize("block_rows", [0, 4])
def test_without_originals_a_page_scores_as_what_its_codes_stand_for(tmp_path, codec, block_rows):
    manifest = replace(MANIFEST, codec=codec, originals=False, block_rows=block_rows)
    with PageIndex.create(tmp_path / codec, manifest) as index:
        fill(index, "a.pdf", 6)
        q = query(2, t=9)
        before = {h.page: h.score for h in index.search([q], 6, ranking="late")[0].hits}
        for n, score in before.items():
            vectors = index.embedding("a.pdf", n).vectors
            assert score == pytest.approx(page_score(vectors, q.vectors, np.full(9, 1 / 9), block_rows), abs=3e-3)
            cosine = (vectors * page("a.pdf", n).embedding.vectors).sum(1) / np.linalg.norm(vectors, axis=1)
            assert cosine.mean() > 0.75
        with index.writing():
            index.add([document("b.pdf", 1)], [page("b.pdf", 1)])
            index.remove(["b.pdf"])
            index.compact()
        assert {h.page: h.score for h in index.search([q], 6, ranking="late")[0].hits} == pytest.approx(before, abs=1e-6)
