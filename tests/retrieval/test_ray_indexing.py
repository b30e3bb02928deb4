"""Indexing on a real Ray of two workers on this machine: the same index as without it."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from documents import endless_pdf, locked_pdf, text_pdf
from fake_embedder import HashEmbedder

from colsearcher.indexes.errors import MissingExtra, ModelProblem, UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.retrieval import ray_cluster as ray_cluster_module
from colsearcher.retrieval import ray_indexing
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.indexing import add_documents, missing_work, open_or_create
from colsearcher.retrieval.ray_cluster import ClusterProblem, ray_cluster
from colsearcher.retrieval.ray_indexing import add_documents_on_ray, loader_of, wants_gpus
from colsearcher.retrieval.reading import ReadSettings

TESTS = Path(__file__).parents[1]
SETTINGS = ReadSettings(ocr="never", workers=1)


@pytest.fixture(scope="module")
def two_workers():
    """A Ray of two CPUs and little shared memory, whose workers know the tests' embedder."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(TESTS)
    with ray_cluster("local", cpus=2, store_bytes=200 << 20) as cluster:
        yield cluster
    os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)


def write_corpus(folder, documents=3, pages=4):
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for d in range(documents):
        place = folder / "sub" if d % 2 else folder
        text_pdf(place / f"d{d}.pdf", [f"Document{d} page{n} speaks of topic{d}x{n}." for n in range(1, pages + 1)])
    return folder


def add(folder, corpus, settings=SETTINGS, *, on_ray):
    embedder = HashEmbedder()
    with open_or_create(folder, embedder, settings) as index:
        with index.writing():
            work = missing_work(index, find_sources([corpus]))
            if on_ray:
                report = add_documents_on_ray(index, embedder, HashEmbedder, work, settings)
            else:
                report = add_documents(index, embedder, work, settings)
        assert index.verify() == []
    assert embedder.pages_embedded == 0 or not on_ray
    return report


def require_same(one, other):
    with PageIndex.open(one) as a, PageIndex.open(other) as b:
        assert a.texts() == b.texts() and a.texts()
        assert a.documents() == b.documents()
        assert a.info()["problems"] == b.info()["problems"]
        for place in a.pages():
            left, right = a.embedding(*place), b.embedding(*place)
            assert np.array_equal(left.vectors, right.vectors) and np.array_equal(left.boxes, right.boxes)
            assert a.page(*place).size == b.page(*place).size


def test_an_actor_loads_its_model_to_the_device_that_was_named(monkeypatch):
    loaded = []
    monkeypatch.setattr(ray_indexing, "load_embedder", lambda name, **where: loaded.append((name, where)))
    loader_of(HashEmbedder(), "cuda:1")()
    assert loaded == [(HashEmbedder.name, {"device": "cuda:1"})]


def test_a_gpu_is_asked_for_by_a_model_that_looks_and_may_use_one():
    reads, looks = HashEmbedder(), HashEmbedder()
    looks.picture_pixels = 1000
    assert [wants_gpus(looks, device) for device in ("auto", "cuda", "cpu")] == [True, True, False]
    assert not wants_gpus(reads, "auto")


def test_a_cluster_that_does_not_answer_is_one_sentence_at_once():
    """Before the others: a process that has joined a cluster stays with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match="There is no Ray cluster to work on"), ray_cluster(address):
        pass


def test_the_index_is_the_same_and_a_second_run_does_nothing(two_workers, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=3, pages=11)
    locked_pdf(corpus / "locked.pdf")
    (corpus / "empty.pdf").write_bytes(b"")
    wanted = add(tmp_path / "one", corpus, on_ray=False)
    found = add(tmp_path / "ray", corpus, on_ray=True)
    assert replace(found, seconds=0) == replace(wanted, seconds=0)
    assert found.pages_added == 33 and {problem.document for problem in found.problems} == {"locked.pdf", "empty.pdf"}
    require_same(tmp_path / "one", tmp_path / "ray")
    again = add(tmp_path / "ray", corpus, on_ray=True)
    assert (again.pages_added, again.pages_unchanged, len(again.problems)) == (0, 33, 2)


def test_work_that_wants_no_gpu_does_not_wait_for_one(two_workers, tmp_path, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})  # no actor could have that one
    with ray_cluster("local") as cluster:
        assert cluster.gpus == 1
    corpus = write_corpus(tmp_path / "corpus", documents=1)

    def on_start(cluster):
        assert str(cluster) == "2 CPUs"

    with open_or_create(tmp_path / "index", HashEmbedder(), SETTINGS) as index, index.writing():
        work = missing_work(index, find_sources([corpus]))
        report = add_documents_on_ray(index, HashEmbedder(), HashEmbedder, work, SETTINGS, gpus=False, on_start=on_start)
    assert report.pages_added == 4


@pytest.mark.slow
def test_changed_files_and_pages_that_hang_are_treated_the_same(two_workers, tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    endless_pdf(corpus / "slow.pdf")
    hasty = ReadSettings(ocr="never", workers=1, page_seconds=2)
    reports = [add(tmp_path / name, corpus, hasty, on_ray=name == "ray") for name in ("one", "ray")]
    assert [(p.document, p.page) for p in reports[1].problems] == [("slow.pdf", 2)]
    text_pdf(corpus / "d0.pdf", ["Quite another text.", "And a second page."])
    reports = [add(tmp_path / name, corpus, hasty, on_ray=name == "ray") for name in ("one", "ray")]
    assert replace(reports[1], seconds=0) == replace(reports[0], seconds=0) and reports[1].documents_replaced == 1
    require_same(tmp_path / "one", tmp_path / "ray")


def broken_embedder():
    raise ModelProblem("The weights are not here; put them there.")


@pytest.mark.slow
def test_a_machine_without_the_model_ends_the_run_with_its_sentence(two_workers, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=1)
    with open_or_create(tmp_path / "index", HashEmbedder(), SETTINGS) as index, index.writing():
        work = missing_work(index, find_sources([corpus]))
        with pytest.raises(UserError, match="The weights are not here; put them there"):
            add_documents_on_ray(index, HashEmbedder(), broken_embedder, work, SETTINGS)


class DyingEmbedder(HashEmbedder):
    def embed_pages(self, pages):
        os._exit(1)


@pytest.mark.slow
def test_actors_that_die_again_and_again_end_the_run_with_a_sentence(two_workers, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=1)
    with open_or_create(tmp_path / "index", HashEmbedder(), SETTINGS) as index, index.writing():
        work = missing_work(index, find_sources([corpus]))
        with pytest.raises(ClusterProblem, match=r"lost its workers again and again .* run the same command again"):
            add_documents_on_ray(index, HashEmbedder(), DyingEmbedder, work, SETTINGS)
    add(tmp_path / "index", corpus, on_ray=False)
    add(tmp_path / "one", corpus, on_ray=False)
    require_same(tmp_path / "one", tmp_path / "index")


def test_an_address_where_no_cluster_can_be_is_one_sentence():
    for address in ("corpus/", "http://x", "a:b"):
        with pytest.raises(UserError, match="is not the address of a Ray cluster"), ray_cluster(address):
            pass


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'colsearcher\[ray\]'"), ray_cluster("local"):
        pass


def test_nothing_is_told_to_anybody():
    assert ray_cluster_module.ENVIRONMENT["RAY_USAGE_STATS_ENABLED"] == "0"


_ADD = """
import pathlib, sys
from colsearcher.retrieval import indexing
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.ray_cluster import ClusterProblem, ray_cluster
from colsearcher.retrieval.ray_indexing import add_documents_on_ray, loader_of
from colsearcher.retrieval.reading import ReadSettings
from fake_embedder import HashEmbedder

if __name__ == "__main__":
    indexing.BATCH_PAGES = 3
    settings = ReadSettings(ocr="never", workers=1)
    with indexing.open_or_create(pathlib.Path(sys.argv[1]), HashEmbedder(), settings) as index, index.writing():
        work = indexing.missing_work(index, find_sources([pathlib.Path(sys.argv[2])]))
        with ray_cluster("local", cpus=2, store_bytes=200 << 20):
            add_documents_on_ray(index, HashEmbedder(), HashEmbedder, work, settings)
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_with_the_pages_it_lacks(tmp_path):
    corpus, folder = write_corpus(tmp_path / "corpus", documents=3, pages=60), tmp_path / "index"
    (tmp_path / "add.py").write_text(_ADD)
    command = [sys.executable, str(tmp_path / "add.py"), str(folder), str(corpus)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while run.poll() is None and stored(folder) < 20:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    before = stored(folder)
    assert 20 <= before < 180
    report = add(folder, corpus, on_ray=False)
    assert report.pages_added == 180 - before
    add(tmp_path / "one", corpus, on_ray=False)
    require_same(tmp_path / "one", folder)


def stored(folder):
    if not PageIndex.exists(folder):
        return 0
    with PageIndex.open(folder) as index:
        return len(index.pages())
