from dataclasses import replace

import numpy as np
import pytest
from fake_embedder import HashEmbedder

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.page_index import PageIndex
from colsearcher.retrieval.projection import ProjectedEmbedder
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.index_copies import copy_index
from colsearcher.training.question import Paragraph, Question
from colsearcher.training.retrieval_evaluation import context_searcher
from colsearcher.training.storage_scores import evaluate_pooling, evaluate_projection, fit_projection

WORDS = [f"word{i}" for i in range(400)]


@pytest.fixture(scope="module")
def searcher():
    rng = np.random.default_rng(0)
    pages = [Paragraph(f"t{i}", " ".join(rng.choice(WORDS, 24))) for i in range(60)]
    with context_searcher([Question("q", "?", ("a",), frozenset(), tuple(pages))], HashEmbedder()) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def questions(searcher):
    """Five words of a page each, and one that no page answers."""
    made = [
        Question(name, " ".join(text.split()[2:7]), ("a",), frozenset({Address(name, 1)}))
        for name, _, text in searcher.index.texts()[:20]
    ]
    return [*made, Question("none", "word1", ("a",), frozenset())]


def test_pooling_stores_fewer_vectors_in_fewer_bytes_and_loses_more_the_fewer_they_are(searcher, questions):
    before = searcher.index.info()
    rows = {row.name: row for row in evaluate_pooling(searcher, questions)}
    assert list(rows) == ["none", "cluster:2", "cluster:3", "spatial:3", "cluster:6"]
    assert rows["none"].vectors_per_page == 25
    assert [rows[name].vectors_per_page for name in ("cluster:2", "spatial:3")] == [13, 9]
    sizes = [rows[name].bytes_per_page for name in ("none", "cluster:2", "cluster:3", "cluster:6")]
    assert sizes == sorted(sizes, reverse=True)
    assert rows["none"].late_ndcg == rows["none"].ndcg == rows["none"].recall_1 == 1
    (_, single) = evaluate_pooling(searcher, questions, poolings=["cluster:25"])
    assert single.vectors_per_page == 1
    assert single.late_ndcg < 1
    assert searcher.index.info() == before


def test_where_pages_are_scored_by_passages_the_loss_of_these_is_a_row_of_its_own(searcher, questions, tmp_path):
    with copy_index(searcher.index, tmp_path / "index", replace(searcher.index.manifest, block_rows=4)) as index:
        rows = evaluate_pooling(Searcher(index, searcher.embedder), questions, poolings=["cluster:3"])
    assert [row.name for row in rows] == ["none", "none, whole pages", "cluster:3"]
    assert rows[0].vectors_per_page == rows[1].vectors_per_page == 25
    assert rows[2].row()["ndcg@5"] == rows[2].ndcg


def test_a_projection_says_what_it_keeps_and_what_it_costs(searcher, questions):
    projection, vectors = fit_projection(searcher.index, 31)
    assert vectors == searcher.index.info()["vectors"]
    assert projection.kept > 0.95
    full, projected = evaluate_projection(searcher, questions, projection)
    assert (full.late_ndcg, projected.late_ndcg) == (1, pytest.approx(1, abs=0.02))
    assert projected.bytes_per_page < full.bytes_per_page
    sign, _ = fit_projection(searcher.index, 1)  # a word is 1 or -1
    assert sign.kept < 0.2
    assert evaluate_projection(searcher, questions, sign)[1].late_ndcg < 0.9


def test_what_cannot_be_compared_is_refused(searcher, questions, tmp_path):
    manifest = searcher.index.manifest
    with copy_index(searcher.index, tmp_path / "pooled", replace(manifest, pool="cluster:3")) as index:
        with pytest.raises(UserError, match=r"pooled already \(cluster:3\)"):
            evaluate_pooling(Searcher(index, searcher.embedder), questions)
        projection, _ = fit_projection(index, 8)
    embedder = ProjectedEmbedder(searcher.embedder, projection)
    projected = replace(manifest, dim=8, revision=embedder.revision, projection=projection.sha256)
    with PageIndex.create(tmp_path / "projected", projected) as index, pytest.raises(UserError, match="projected already"):
        fit_projection(index, 4)
    with copy_index(searcher.index, tmp_path / "codes", replace(manifest, originals=False)) as index:
        codes = Searcher(index, searcher.embedder)
        with pytest.raises(UserError, match=r"keeps codes alone.* to compare ways of pooling"):
            evaluate_pooling(codes, questions)
        with pytest.raises(UserError, match=r"keeps codes alone.* to compare projections"):
            evaluate_projection(codes, questions, projection)
    with pytest.raises(UserError, match="--dim is 32; the index has 32 dimensions: give 1 to 31"):
        fit_projection(searcher.index, 32)
    with pytest.raises(UserError, match="No question has evidence pages"):
        evaluate_pooling(searcher, questions[-1:])
