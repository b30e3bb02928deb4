"""Tuning, and searching through what it made: candidates never decide what a page is worth, only which pages are looked at."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fake_pages import MANIFEST, document, page, query

from colsearcher.indexes import audit, page_search
from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.planner import Plan

DOCUMENTS, PAGES = 30, 8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "index"
    with PageIndex.create(folder, MANIFEST) as index, index.writing():
        for d in range(DOCUMENTS):
            pages = [page(f"{d:02}.pdf", n, rows=30 + d, text=f"word{d} page") for n in range(1, PAGES + 1)]
            index.add([document(f"{d:02}.pdf", PAGES)], pages)
        index.tune(recall=0.95, pooled_pages=100)
    return folder


@pytest.fixture
def index(made, tmp_path):
    """A copy of the filled and tuned index, to be written."""
    folder = tmp_path / "index"
    shutil.copytree(made, folder)
    with PageIndex.open(folder) as index, index.writing():
        yield index


@pytest.fixture
def pooled(monkeypatch):
    """Make every plan one of candidates, which an index of this size would never need."""
    monkeypatch.setattr(page_search, "make_plan", lambda _: Plan("pooled", 30, "for the test", {}))


def ranked(index, seed=0, k=10, **more):
    return {(h.document, h.page): h.score for h in index.search([query(seed)], k, ranking="late", **more)[0].hits}


def test_tuning_measures_every_engine_and_is_kept(index):
    with PageIndex.open(index.folder) as again:
        tuning = again.info()["tuning"]
    assert tuning["codes_recall"] >= 0.95
    assert 10 <= tuning["depth"] < DOCUMENTS * PAGES
    assert set(tuning["scan_ns"]) == {"16", "4"}
    assert tuning["pooled"]["recall"] >= 0.95
    assert (index.folder / tuning["pooled"]["folder"]).is_dir()


def test_the_reported_recall_is_the_one_that_searches_have(index, pooled):
    sampled = audit.sample_queries(index._page_search(), 40, seed=5)
    queries = [replace(query(t=len(vectors)), vectors=vectors) for vectors, _ in sampled]
    found = [{(h.document, h.page) for h in result.hits} for result in index.search(queries, 10, ranking="late")]
    assert index.search([query()], 10)[0].plan["engine"] == "pooled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_search, "make_plan", lambda _: Plan("exact", 0, "for the test", {}))
        exact = index.search(queries, 10, ranking="late")
    shares = [len(f & {(h.document, h.page) for h in e.hits}) / 10 for f, e in zip(found, exact, strict=True)]
    assert np.mean(shares) >= 0.9


def test_candidates_change_no_score(index, monkeypatch):
    monkeypatch.setattr(page_search, "make_plan", lambda _: Plan("exact", 0, "for the test", {}))
    exact = ranked(index, k=DOCUMENTS * PAGES)
    for engine in ("codes", "pooled"):
        monkeypatch.setattr(page_search, "make_plan", lambda _, engine=engine: Plan(engine, 30, "for the test", {}))
        found = ranked(index)
        assert len(found) == 10
        assert found == {key: exact[key] for key in found}


def test_pages_added_since_are_found_and_removed_ones_are_not(index, pooled):
    with_own = page("new.pdf", 1, seed=0)
    before = list(ranked(index))
    index.add([document("new.pdf", 1)], [with_own])
    asked = np.asarray(with_own.embedding.vectors, np.float32)[:4]
    hits = index.search([replace(query(), vectors=asked)], 3, ranking="late")[0].hits
    assert (hits[0].document, hits[0].page) == ("new.pdf", 1)
    index.remove([before[0][0]])
    assert before[0][0] not in {document for document, _ in ranked(index, k=50)}
    index.compact()
    assert len(ranked(index)) == 10
    assert index.verify() == []


@pytest.mark.parametrize(
    ("sql", "wanted"), [("document = 'none.pdf'", 0), ("document = '03.pdf' AND page = 2", 1), ("page <= 4", 10)]
)
def test_a_filter_is_applied_before_candidates_are_looked_for(index, pooled, sql, wanted):
    hits = ranked(index, filter=sql)
    assert len(hits) == wanted
    if wanted:
        allowed = {"03.pdf"} if "03" in sql else {f"{d:02}.pdf" for d in range(DOCUMENTS)}
        assert {document for document, _ in hits} <= allowed
        assert all(number <= 4 for _, number in hits)


def test_pages_that_were_hidden_when_it_was_tuned_are_found_once_they_are_seen(index, pooled):
    changed = [page("00.pdf", n, seed=4_000 + n) for n in range(1, PAGES + 1)]
    new = document("00.pdf", PAGES, sha="2")
    index.add([new], changed[:-1])  # the old version is what searches see
    index.add([document("later.pdf", 1)], [page("later.pdf", 1, seed=5_000)])
    index.tune(recall=0.95, pooled_pages=100)
    index.add([new], changed[-1:])
    for seed, name in [(4_000 + n, ("00.pdf", n)) for n in range(1, PAGES + 1)] + [(5_000, ("later.pdf", 1))]:
        own = page(*name, seed=seed).embedding.vectors
        asked = replace(query(t=len(own)), vectors=own)
        hit = index.search([asked], 1, ranking="late")[0].hits[0]
        assert (hit.document, hit.page) == name


def test_words_bring_a_page_that_no_vector_would(index, pooled):
    hits = index.search([query(5, text="word17")], 10)[0].hits
    assert "17.pdf" in {hit.document for hit in hits}


def test_tuning_again_leaves_one_set_of_candidates(index):
    first = set(index.folder.glob("candidates-*"))
    index.add([document("new.pdf", 1)], [page("new.pdf", 1)])
    index.tune([query(seed) for seed in range(8)], recall=0.9, pooled_pages=100)
    second = set(index.folder.glob("candidates-*"))
    assert len(second) == 1
    assert not first & second
    assert index.info()["tuning"]["queries"] == 8


def test_candidates_that_no_tuning_names_are_swept(index):
    stray = index.folder / "candidates-9-9"
    stray.mkdir()
    with PageIndex.open(index.folder) as other:
        assert other.info()["tuning"]
    index._sweep_candidates(index._tuning())
    assert not stray.exists()


def test_damaged_candidates_are_named(index, pooled):
    folder = index.folder / json.loads(index._tuning().to_json())["pooled"]["folder"]
    path = max((p for p in folder.iterdir()), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert any(folder.name in fault for fault in index.verify())
    path.write_bytes(data[: len(data) // 2])
    with PageIndex.open(index.folder) as again, pytest.raises(IndexProblem, match="tune"):
        again.search([query()], 3)
    index.tune(recall=0.95, pooled_pages=100)  # what the message says
    assert not folder.exists()
    assert len(ranked(index)) == 10
    assert index.verify() == []


def test_an_impossible_recall_and_an_empty_index_are_refused(index, tmp_path):
    for recall in (0, -1, 1.5):
        with pytest.raises(UserError, match="recall"):
            index.tune(recall=recall)
        with pytest.raises(UserError, match="recall"):
            index.search([query()], recall=recall)
    with (
        PageIndex.create(tmp_path / "empty", MANIFEST) as empty,
        empty.writing(),
        pytest.raises(UserError, match="holds no pages"),
    ):
        empty.tune()
