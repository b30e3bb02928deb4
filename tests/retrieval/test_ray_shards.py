"""Shards written by real Ray actors on this machine, and searched as one index."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from documents import locked_pdf, text_pdf
from fake_embedder import HashEmbedder

from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.shard_list import read_shards, shard_of, write_shards
from colsearcher.indexes.shards import open_index
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.indexing import add_documents, missing_work, open_or_create
from colsearcher.retrieval.ray_cluster import ray_cluster
from colsearcher.retrieval.ray_shards import ShardJob, add_documents_to_shards, require_shards
from colsearcher.retrieval.reading import ReadSettings

SETTINGS = ReadSettings(ocr="never", workers=1)


@pytest.fixture(scope="module")
def two_workers():
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with ray_cluster("local", cpus=2, store_bytes=200 << 20) as cluster:
        yield cluster
    os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"pool": "cluster:3", "codec": "2bit", "drop_originals": True}], ids=["plain", "pooled"])
def test_shards_are_one_index_and_a_second_run_does_nothing(how, two_workers, tmp_path):
    opened = partial(open_or_create, settings=SETTINGS, **how)
    job = ShardJob(opened, HashEmbedder, SETTINGS)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for d in range(6):
        text_pdf(corpus / f"d{d}.pdf", [f"Document{d} page{n} speaks of topic{d}x{n} and tulips." for n in range(1, 4 + d)])
    locked_pdf(corpus / "locked.pdf")
    sources = find_sources([corpus])
    with opened(tmp_path / "one", HashEmbedder()) as one, one.writing():
        wanted = add_documents(one, HashEmbedder(), missing_work(one, sources), SETTINGS)
    told = []
    found = add_documents_to_shards(tmp_path / "many", sources, job, 2, on_progress=told.append)
    assert replace(found, seconds=0) == replace(wanted, seconds=0)
    assert told[-1].pages_read == found.pages_added == 33
    assert read_shards(tmp_path / "many") == ["shard-0", "shard-1"]
    for i in range(2):
        with PageIndex.open(tmp_path / "many" / f"shard-{i}") as shard:
            assert shard.documents() and all(shard_of(record.document, 2) == i for record in shard.documents())
    rounding = 1e-7 if how else 1e-9  # scores of codes alone are sums in float32, and their order is that of the tiles
    queries = HashEmbedder().embed_queries(["topic3x2 and tulips", "page2 speaks", "last page of document1"])
    with PageIndex.open(tmp_path / "one") as one, open_index(tmp_path / "many") as many:
        assert (one.texts(), one.documents(), many.verify()) == (many.texts(), many.documents(), [])
        for place in one.pages():
            assert np.array_equal(one.embedding(*place).vectors, many.embedding(*place).vectors)
        for ranking in ("default", "late", "words"):
            for a, b in zip(one.search(queries, 50, ranking=ranking), many.search(queries, 50, ranking=ranking), strict=True):
                assert [hit.address for hit in a.hits] == [hit.address for hit in b.hits]
                assert [hit.score for hit in a.hits] == pytest.approx([hit.score for hit in b.hits], abs=rounding)
    text_pdf(corpus / "d0.pdf", ["Quite another text."])
    again = add_documents_to_shards(tmp_path / "many", find_sources([corpus]), job, 2)
    assert (again.pages_added, again.documents_replaced, again.documents_unchanged) == (1, 1, 5)
    locked = pytest.raises(IndexProblem, match="Another process is changing the index")
    with PageIndex.open(tmp_path / "many" / "shard-0") as shard, shard.writing(), locked:
        add_documents_to_shards(tmp_path / "many", sources, job, 2)


def test_what_cannot_be_sharded_so_is_said(tmp_path):
    with pytest.raises(UserError, match="--shards is 0"):
        require_shards(tmp_path, 0)
    assert require_shards(tmp_path / "new", 2) == ["shard-0", "shard-1"]
    write_shards(tmp_path / "many", ["shard-0", "shard-1"])
    with pytest.raises(IndexProblem, match="holds 2 shards, not 3; use --shards 2"):
        require_shards(tmp_path / "many", 3)
    write_shards(tmp_path / "away", ["shard-0", "http://elsewhere:1"])
    with pytest.raises(IndexProblem, match="is on another machine"):
        require_shards(tmp_path / "away", 2)
    open_or_create(tmp_path / "one", HashEmbedder(), SETTINGS).close()
    with pytest.raises(IndexProblem, match="is of one piece"):
        require_shards(tmp_path / "one", 2)
