"""What is searched: a digest that tells whether an interrupted evaluation is still about the same pages."""

from dataclasses import replace
from pathlib import Path

from fake_embedder import HashEmbedder
from fake_pages import MANIFEST, document, page

from colsearcher.agent.source import Place, Source
from colsearcher.indexes.page_index import PageIndex
from colsearcher.retrieval.searcher import Searcher


def corpus(folder, *documents, **manifest):
    with PageIndex.create(folder, replace(MANIFEST, **manifest)) as index:
        with index.writing():
            index.add(documents, [page(one.document, 1) for one in documents])
        return Source.of(Searcher(index, HashEmbedder())).corpus


def test_the_corpus_is_another_as_soon_as_other_pages_can_be_found(tmp_path):
    ferry = document("ferry.pdf", 1)
    first = corpus(tmp_path / "first", ferry)
    assert corpus(tmp_path / "again", replace(ferry, path="/elsewhere/ferry.pdf"), created="2026-02-02") == first
    others = {
        corpus(tmp_path / "more", ferry, document("tulips.pdf", 1)),
        corpus(tmp_path / "changed", document("ferry.pdf", 1, sha="2")),
        corpus(tmp_path / "renamed", document("boat.pdf", 1)),
        corpus(tmp_path / "read-otherwise", ferry, ocr="never"),
    }
    assert len(others) == 4 and first not in others
    service = Source(Place("service", "http://somewhere/retrieve"), None, {}, Path())
    assert service.corpus == ""
