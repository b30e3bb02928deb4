import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from documents import endless_pdf, locked_pdf, text_pdf
from fake_embedder import HashEmbedder
from fake_pages import page

from colsearcher.indexes.errors import IndexProblem
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import DocumentRecord
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.indexing import add_documents, missing_work, open_or_create
from colsearcher.retrieval.reading import ReadSettings

SETTINGS = ReadSettings(ocr="never", workers=1)


def write_corpus(folder, documents=3, pages=4):
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for d in range(documents):
        place = folder / "sub" if d % 2 else folder
        text_pdf(place / f"d{d}.pdf", [f"Document{d} page{n} speaks of topic{d}x{n}." for n in range(1, pages + 1)])
    return folder


def add(index_folder, corpus, embedder=None):
    embedder = embedder or HashEmbedder()
    with open_or_create(index_folder, embedder, SETTINGS) as index:
        with index.writing():
            report = add_documents(index, embedder, missing_work(index, find_sources([corpus])), SETTINGS)
        assert index.verify() == []
        return report, index.pages()


def test_a_folder_becomes_pages_that_are_found_by_their_words(tmp_path):
    report, pages = add(tmp_path / "index", write_corpus(tmp_path / "corpus"))
    assert pages == [(d, n) for d in ("d0.pdf", "d2.pdf", "sub/d1.pdf") for n in range(1, 5)]
    assert (report.documents_added, report.pages_added, report.problems) == (3, 12, [])
    with PageIndex.open(tmp_path / "index") as index:
        hit = index.search(HashEmbedder().embed_queries(["topic1x3"]), 1)[0].hits[0]
        assert str(hit.address) == "sub/d1.pdf#p=3"
        page = index.page("sub/d1.pdf", 3)
        assert page.text == "Document1 page3 speaks of topic1x3."
        assert page.word_boxes.shape == (5, 4) and page.path == str(tmp_path / "corpus/sub/d1.pdf")


def test_a_second_run_embeds_nothing_and_a_change_only_what_changed(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus")
    add(tmp_path / "index", corpus)
    embedder = HashEmbedder()
    with monkeypatch.context() as patch:
        patch.setattr(PageIndex, "prepare", lambda index: pytest.fail("there is nothing to store"))
        report, _ = add(tmp_path / "index", corpus, embedder)
    assert embedder.pages_embedded == 0
    assert (report.documents_unchanged, report.pages_unchanged, report.pages_added) == (3, 12, 0)
    text_pdf(corpus / "d0.pdf", ["Quite another text.", "And a second page."])
    report, pages = add(tmp_path / "index", corpus, embedder)
    assert embedder.pages_embedded == 2 and report.documents_replaced == 1
    assert pages[:2] == [("d0.pdf", 1), ("d0.pdf", 2)] and len(pages) == 10


def test_a_document_that_moved_is_found_where_it_is_now(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    add(tmp_path / "index", corpus)
    corpus.rename(tmp_path / "elsewhere")
    embedder = HashEmbedder()
    add(tmp_path / "index", tmp_path / "elsewhere", embedder)
    with PageIndex.open(tmp_path / "index") as index:
        assert index.page("d0.pdf", 1).path == str(tmp_path / "elsewhere/d0.pdf")
    assert embedder.pages_embedded == 0


def test_another_file_of_the_same_name_does_not_take_the_place_of_one_that_is_still_there(tmp_path):
    for year in ("2024", "2025"):
        text_pdf(write_corpus(tmp_path / year, documents=1) / "report.pdf", [f"Report of {year}."])
    text_pdf(tmp_path / "2025/d0.pdf", ["Another first document."])
    add(tmp_path / "index", tmp_path / "2024")
    report, pages = add(tmp_path / "index", tmp_path / "2025")
    assert [problem.document for problem in report.problems] == ["d0.pdf", "report.pdf"] and report.documents_replaced == 0
    assert f"another file of this name, {tmp_path / '2024/d0.pdf'}" in report.problems[0].reason and len(pages) == 5
    (tmp_path / "2024/report.pdf").unlink()  # what is gone may come from elsewhere
    report, _ = add(tmp_path / "index", tmp_path / "2025")
    assert (report.documents_replaced, len(report.problems)) == (1, 1)
    with PageIndex.open(tmp_path / "index") as index:
        assert index.page("report.pdf", 1).text == "Report of 2025."


def test_bad_files_are_named_and_the_rest_is_indexed(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=1)
    locked_pdf(corpus / "locked.pdf")
    (corpus / "empty.pdf").write_bytes(b"")
    (corpus / "page.pdf").write_text("<!doctype html><html><body>Sign in</body></html>")
    report, pages = add(tmp_path / "index", corpus)
    assert {problem.document for problem in report.problems} == {"locked.pdf", "empty.pdf", "page.pdf"}
    assert len(pages) == 4


def test_a_file_that_breaks_later_keeps_its_stored_pages(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=1)
    add(tmp_path / "index", corpus)
    (corpus / "d0.pdf").write_bytes(b"")
    report, pages = add(tmp_path / "index", corpus)
    assert len(report.problems) == 1 and len(pages) == 4


def test_a_page_that_took_too_long_is_kept_in_mind_and_read_when_asked_again(tmp_path):
    sources = find_sources([endless_pdf(tmp_path / "slow.pdf", levels=5)])
    embedder = HashEmbedder()
    with open_or_create(tmp_path / "index", embedder, SETTINGS) as index, index.writing():
        hasty = ReadSettings(ocr="never", workers=1, page_seconds=0.5)
        report = add_documents(index, embedder, missing_work(index, sources), hasty)
        assert [(p.document, p.page) for p in report.problems] == [("slow.pdf", 2)]
        assert missing_work(index, sources).to_read == ()
        assert index.info()["problems"][0]["page"] == 2 and index.info()["incomplete_documents"] == 0
        patient = ReadSettings(ocr="never", workers=1, page_seconds=60)
        report = add_documents(index, embedder, missing_work(index, sources, retry=True), patient)
        assert (report.pages_added, report.problems, index.info()["problems"]) == (1, [], [])
        assert index.pages() == [("slow.pdf", 1), ("slow.pdf", 2), ("slow.pdf", 3)]


def test_a_file_restored_in_the_middle_of_its_replacement_leaves_no_rest(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=1)
    add(tmp_path / "index", corpus)
    with PageIndex.open(tmp_path / "index") as index, index.writing():
        changed = DocumentRecord("d0.pdf", str(corpus / "d0.pdf"), "2" * 64, 9)
        index.add([changed], [page("d0.pdf", 1, rows=0)])
        assert index.half_replaced() == {"d0.pdf"}
    _, pages = add(tmp_path / "index", corpus)
    with PageIndex.open(tmp_path / "index") as index:
        assert index.info()["incomplete_documents"] == 0 and len(pages) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_file_whose_name_is_not_text_is_named_and_the_rest_is_indexed(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=1)
    os.rename(corpus / "d0.pdf", os.path.join(os.fsencode(corpus), b"bad\xff.pdf"))  # noqa: PTH104, PTH118
    text_pdf(corpus / "good.pdf", ["A good page."])
    report, pages = add(tmp_path / "index", corpus)
    assert pages == [("good.pdf", 1)] and "not UTF-8" in report.problems[0].reason


def test_other_settings_than_the_index_was_made_with_are_refused(tmp_path):
    add(tmp_path / "index", write_corpus(tmp_path / "corpus", documents=1))
    with pytest.raises(IndexProblem, match="made with --ocr never, not always"):
        open_or_create(tmp_path / "index", HashEmbedder(), ReadSettings(ocr="always"))


@pytest.mark.parametrize(("made", "wanted", "sentence"), [
    (None, "cluster:3", "made with --pool none, not cluster:3"),
    ("cluster:3", "spatial:3", "made with --pool cluster:3, not spatial:3"),
    ("cluster:3", "none", "made with --pool cluster:3, not none"),
])  # fmt: skip
def test_another_pooling_than_the_index_was_made_with_is_refused(tmp_path, made, wanted, sentence):
    open_or_create(tmp_path / "index", HashEmbedder(), SETTINGS, pool=made).close()
    for same in (None, made):
        open_or_create(tmp_path / "index", HashEmbedder(), SETTINGS, pool=same).close()
    with pytest.raises(IndexProblem, match=sentence):
        open_or_create(tmp_path / "index", HashEmbedder(), SETTINGS, pool=wanted)


_ADD = """
import pathlib, sys
sys.path.insert(0, sys.argv[3])
from colsearcher.retrieval import indexing
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.reading import ReadSettings
from fake_embedder import HashEmbedder

if __name__ == "__main__":
    indexing.BATCH_PAGES = 3
    settings = ReadSettings(ocr="never", workers=2)
    with indexing.open_or_create(pathlib.Path(sys.argv[1]), HashEmbedder(), settings) as index, index.writing():
        work = indexing.missing_work(index, find_sources([pathlib.Path(sys.argv[2])]))
        indexing.add_documents(index, HashEmbedder(), work, settings)
"""


def test_killed_at_random_moments_it_ends_with_every_page_once(tmp_path):
    corpus, folder = write_corpus(tmp_path / "corpus", documents=5, pages=40), tmp_path / "index"
    script = tmp_path / "add.py"
    script.write_text(_ADD)
    command = [sys.executable, str(script), str(folder), str(corpus), str(Path(__file__).parents[1])]
    dice = random.Random(time.time_ns())
    kills, stored = 0, []
    for _ in range(6):
        run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for_growth(folder, run, pages(folder) + dice.randrange(1, 40))
        time.sleep(dice.uniform(0, 0.05))
        kills += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.communicate()
        stored.append(pages(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert kills >= 2 and stored == sorted(stored)
    with PageIndex.open(folder) as index:
        found = index.pages()
        assert index.verify() == [] and index.info()["incomplete_documents"] == 0
    assert found == sorted(
        {(name, n) for name in ("d0.pdf", "d2.pdf", "d4.pdf", "sub/d1.pdf", "sub/d3.pdf") for n in range(1, 41)}
    )


def pages(folder):
    if not PageIndex.exists(folder):
        return 0
    with PageIndex.open(folder) as index:
        return len(index.pages())


def wait_for_growth(folder, run, wanted):
    while run.poll() is None and pages(folder) < wanted:
        time.sleep(0.01)
