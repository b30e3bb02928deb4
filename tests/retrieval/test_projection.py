import doctest
import shutil

import numpy as np
import pytest
from documents import text_pdf
from fake_embedder import HashEmbedder

from colsearcher.indexes.errors import IndexProblem, UserError
from colsearcher.indexes.manifest import PROJECTION_FILE
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.shard_list import write_shards
from colsearcher.indexes.shards import ShardedIndex
from colsearcher.retrieval import projection as module
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.indexing import add_documents, missing_work, open_or_create
from colsearcher.retrieval.projection import ProjectedEmbedder, Projection, embedder_for, embedder_of
from colsearcher.retrieval.reading import ReadSettings

SETTINGS = ReadSettings(ocr="never", workers=1)


def test_doctests():
    assert doctest.testmod(module).failed == 0


def vectors(n=400, dim=HashEmbedder.dim, seed=0):
    """Unit vectors that point in some directions more than in others."""
    made = np.random.default_rng(seed).normal(size=(n, dim)) * np.geomspace(1, 0.05, dim)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def fit(dim=8, embedder="hash", revision=HashEmbedder.revision, of=None):
    return Projection.fit(vectors() if of is None else of, dim, embedder=embedder, revision=revision)


def test_it_is_what_numpys_singular_vectors_are():
    made, projection = vectors(), fit()
    _, lengths, directions = np.linalg.svd(made.astype(np.float64), full_matrices=False)
    assert projection.kept == pytest.approx((lengths[:8] ** 2).sum() / (lengths**2).sum(), abs=1e-6)
    cosines = (projection.matrix_D_C.T.astype(np.float64) * directions[:8]).sum(1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-4)
    np.testing.assert_allclose(projection.matrix_D_C.T @ projection.matrix_D_C, np.eye(8), atol=1e-6)
    expected = made.astype(np.float64) @ projection.matrix_D_C
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(projection.apply(made.astype(np.float16)), expected, atol=2e-3)


def test_directions_that_hold_everything_keep_every_inner_product():
    flat = np.zeros((50, 32), np.float32)
    flat[:, 3:9] = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 6)))[0]
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    projection = fit(6, of=flat)
    assert projection.kept == pytest.approx(1)
    np.testing.assert_allclose(projection.apply(flat) @ projection.apply(flat).T, flat @ flat.T, atol=1e-5)
    assert (projection.apply(np.zeros((2, 32))) == 0).all()
    assert projection.apply(np.empty((0, 32))).shape == (0, 6)


@pytest.mark.parametrize("dim", [0, 32, 33])
def test_a_dimension_that_is_not_below_is_refused(dim):
    with pytest.raises(UserError, match="give 1 to 31"):
        fit(dim)


def test_too_few_vectors_are_refused():
    with pytest.raises(UserError, match="3 vectors do not span 8 dimensions"):
        fit(of=vectors(3))


def test_a_file_is_read_as_it_was_written(tmp_path):
    made = fit()
    made.write(tmp_path / "p.npz")
    read = Projection.read(tmp_path / "p.npz")
    np.testing.assert_array_equal(read.matrix_D_C, made.matrix_D_C)
    assert (read.sha256, read.embedder, read.revision, read.kept) == (made.sha256, "hash", HashEmbedder.revision, made.kept)
    assert fit().sha256 == made.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_what_is_no_projection_is_one_sentence(tmp_path):
    np.savez(tmp_path / "other.npz", matrix=np.eye(3))
    np.save(tmp_path / "array.npz", np.eye(3))
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(fit().data[:300])
    for file in ("other.npz", "array.npz.npy", "text.npz", "empty.npz", "cut.npz"):
        with pytest.raises(UserError, match="is not the file of a projection"):
            Projection.read(tmp_path / file)
    with pytest.raises(UserError, match="cannot be read"):
        Projection.read(tmp_path / "none.npz")
    with pytest.raises(UserError, match="cannot be written"):
        fit().write(tmp_path / "nowhere" / "p.npz")


def test_an_embedder_that_the_projection_is_not_for_is_one_sentence():
    with pytest.raises(UserError, match="made for embedder minilm, not for hash; use --embedder minilm"):
        ProjectedEmbedder(HashEmbedder(), fit(embedder="minilm"))
    with pytest.raises(UserError, match="at revision 000000000000, not"):
        ProjectedEmbedder(HashEmbedder(), fit(revision="0" * 64))
    with pytest.raises(UserError, match="with 16 dimensions, not 32"):
        ProjectedEmbedder(HashEmbedder(), fit(of=vectors(dim=16)))


def test_another_projection_is_another_revision():
    one, other = (ProjectedEmbedder(HashEmbedder(), fit(dim)) for dim in (8, 9))
    assert len({one.revision, other.revision, HashEmbedder.revision}) == 3
    assert (one.name, one.dim, one.block_rows, one.device) == ("hash", 8, 0, "cpu")


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for d in range(3):
        text_pdf(folder / f"d{d}.pdf", [f"Document{d} page{n} speaks of topic{d}x{n}." for n in range(1, 5)])
    return folder


@pytest.fixture
def file(tmp_path, corpus):
    """A projection that was fitted on the corpus; it has 27 different words."""
    with add(tmp_path / "plain", HashEmbedder(), corpus) as index:
        projection = fit(24, of=index.sample_vectors(10_000))
    projection.write(tmp_path / "made.npz")
    return tmp_path / "made.npz"


def add(folder, embedder, corpus, **options):
    index = open_or_create(folder, embedder, SETTINGS, **options)
    with index.writing():
        add_documents(index, embedder, missing_work(index, find_sources([corpus])), SETTINGS)
    return index


def test_an_index_stands_alone_with_its_projection(tmp_path, corpus, file):
    embedder = embedder_for(tmp_path / "index", HashEmbedder(), file)
    sha256 = Projection.read(file).sha256
    with add(tmp_path / "index", embedder, corpus) as index:
        assert (index.manifest.dim, index.manifest.projection) == (24, sha256)
    file.unlink()
    shutil.move(tmp_path / "index", tmp_path / "moved")
    with PageIndex.open(tmp_path / "moved") as index:
        found = embedder_of(index, HashEmbedder())
        assert found.revision == embedder.revision
        stored = index.embedding("d1.pdf", 3).vectors
        assert stored.shape == (5, 24)
        np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-3)
        hit = index.search(found.embed_queries(["topic1x3"]), 1, ranking="late")[0].hits[0]
        assert str(hit.address) == "d1.pdf#p=3"
    text_pdf(corpus / "d9.pdf", ["One more."])
    with add(tmp_path / "moved", embedder_for(tmp_path / "moved", HashEmbedder(), None), corpus) as index:
        assert len(index.pages()) == 13
        assert index.verify() == []


def test_a_projection_and_pooling_go_together(tmp_path, corpus, file):
    embedder = embedder_for(tmp_path / "index", HashEmbedder(), file)
    with add(tmp_path / "index", embedder, corpus, pool="cluster:2", codec="2bit") as index:
        stored = index.embedding("d1.pdf", 3)
        assert stored.vectors.shape == (3, 24)
        assert len(stored.places.owner) == 5


def test_another_projection_than_the_index_was_made_with_is_refused(tmp_path, corpus, file):
    add(tmp_path / "index", embedder_for(tmp_path / "index", HashEmbedder(), file), corpus).close()
    fit(5).write(tmp_path / "other.npz")
    with pytest.raises(IndexProblem, match=r"was made with a projection of sha256 .* not with .*other\.npz"):
        embedder_for(tmp_path / "index", HashEmbedder(), tmp_path / "other.npz")
    with pytest.raises(IndexProblem, match=r"plain was made with no projection, not with .*other\.npz"):
        embedder_for(tmp_path / "plain", HashEmbedder(), tmp_path / "other.npz")
    assert embedder_for(tmp_path / "index", HashEmbedder(), file).dim == 24
    with pytest.raises(IndexProblem, match="do not match"):
        open_or_create(tmp_path / "index", HashEmbedder(), SETTINGS)


def test_shards_use_the_projection_that_they_share(tmp_path, corpus, file):
    for shard in ("shard-0", "shard-1"):
        folder = tmp_path / "sharded" / shard
        add(folder, embedder_for(folder, HashEmbedder(), file), corpus).close()
    write_shards(tmp_path / "sharded", ["shard-0", "shard-1"])
    with ShardedIndex.open(tmp_path / "sharded") as index:
        assert embedder_of(index, HashEmbedder()).dim == 24


@pytest.mark.parametrize("damage", ["gone", "another"])
def test_a_lost_or_changed_projection_is_found_when_the_index_is_opened(tmp_path, corpus, file, damage):
    add(tmp_path / "index", embedder_for(tmp_path / "index", HashEmbedder(), file), corpus).close()
    if damage == "gone":
        (tmp_path / "index" / PROJECTION_FILE).unlink()
    else:
        fit(24, of=vectors(seed=5)).write(tmp_path / "index" / PROJECTION_FILE)
    with PageIndex.open(tmp_path / "index") as index, pytest.raises(IndexProblem, match="missing or not the projection"):
        (fault,) = index.verify()
        assert fault.startswith(
            "projection.npz is missing" if damage == "gone" else "projection.npz does not have the checksum"
        )
        embedder_of(index, HashEmbedder())
