import doctest
from types import SimpleNamespace

import numpy as np
import pytest
from page_oracle import unit

from colsearcher.indexes import candidate_store, candidates
from colsearcher.indexes.candidate_gpu import MOST, GpuCandidates
from colsearcher.indexes.candidates import CandidateIndex, Effort
from colsearcher.indexes.errors import IndexProblem

DIM, PAGES, GROUPS = 24, 200, 6


@pytest.fixture(scope="module")
def pooled():
    """Pooled vectors, the page id of each, and queries."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, PAGES * GROUPS, DIM) * rng.uniform(1, 1.2, (PAGES * GROUPS, 1)).astype(np.float32)
    ids = np.repeat(rng.permutation(10 * PAGES)[:PAGES], GROUPS)
    queries = [(unit(rng, t, DIM), rng.uniform(0.1, 1, t)) for t in (1, 5, 9)]
    return vectors, ids, queries


def build(pooled, folder, **more):
    vectors, ids, _ = pooled
    batches = [(vectors[i : i + 70], ids[i : i + 70]) for i in range(0, len(ids), 70)]
    return CandidateIndex.build(batches, DIM, PAGES, folder=folder, **more)


def by_hand(pooled, query, depth, allowed=None):
    """The definition in the module's docstring, page by page."""
    vectors, ids, _ = pooled
    kept = np.isin(ids, allowed) if allowed is not None else np.ones(len(ids), bool)
    halves = vectors[kept].astype(np.float16).astype(np.float32)
    similarities = query[0] @ halves.T
    found = [np.argsort(-row, kind="stable")[:depth] for row in similarities]
    scores = {}
    for page in {int(ids[kept][g]) for own in found for g in own}:
        total = 0.0
        for row, own, weight in zip(similarities, found, query[1], strict=True):
            mine = [row[g] for g in own if ids[kept][g] == page]
            total += weight * float(max(mine, default=row[own[-1]]))
        scores[page] = total
    return scores


def test_doctests():
    assert doctest.testmod(candidates).failed == 0
    assert doctest.testmod(candidate_store).failed == 0


@pytest.mark.parametrize("depth", [3, 40, 10_000])
def test_reading_everything_gives_the_definition(pooled, tmp_path, depth):
    index = build(pooled, tmp_path / "flat", kind="flat")
    for query, (ids, scores) in zip(pooled[2], index.candidates(pooled[2], 50, Effort(1, depth)), strict=True):
        expected = by_hand(pooled, query, min(depth, PAGES * GROUPS))
        assert len(ids) == min(50, len(expected))
        assert sorted(expected.values(), reverse=True)[: len(ids)] == pytest.approx(scores.tolist(), abs=2e-3)
        for page, score in zip(ids, scores, strict=True):
            assert score == pytest.approx(expected[page], abs=2e-3)


@pytest.mark.parametrize("kind", ["scan", "ivf", "rabitq", "hnsw"])
def test_the_other_kinds_find_what_reading_everything_finds(pooled, tmp_path, kind):
    exact = build(pooled, tmp_path / "flat", kind="flat").candidates(pooled[2], 10, Effort(1, 400))
    near = build(pooled, tmp_path / kind, kind=kind).candidates(pooled[2], 40, Effort(1000, 400))
    for (wanted, _), (ids, _) in zip(exact, near, strict=True):
        assert np.isin(wanted, ids).mean() >= 0.8


@pytest.mark.parametrize("kind", ["scan", "flat", "ivf"])
def test_a_filter_leaves_only_what_it_allows(pooled, tmp_path, kind):
    index = build(pooled, tmp_path / kind, kind=kind)
    some = np.unique(pooled[1])[::17]
    for allowed in (some, some[:1], np.array([], dtype=np.int64), np.array([-5])):
        for ids, _ in index.candidates(pooled[2], 30, Effort(8, 200), allowed=allowed):
            assert set(ids) <= set(allowed) & set(pooled[1])
            assert len(ids) == len(set(allowed) & set(pooled[1]))
    everything = index.candidates(pooled[2], 30, Effort(8, 200), allowed=np.unique(pooled[1]))
    for (a, _), (b, _) in zip(everything, index.candidates(pooled[2], 30, Effort(8, 200)), strict=True):
        assert a.tolist() == b.tolist()


def test_a_scan_is_maxsim_over_what_its_codes_stand_for(pooled, tmp_path):
    vectors, ids, queries = pooled
    index = build(pooled, tmp_path / "scan", kind="scan")
    read_back = candidate_store.CODEC.decode(candidate_store.CODEC.encode(vectors), DIM)
    for (query, weights), (found, scores) in zip(queries, index.candidates(queries, 50, Effort(0, 0)), strict=True):
        expected = {page: float((read_back[ids == page] @ query.T).max(0) @ weights) for page in np.unique(ids)}
        assert sorted(expected.values(), reverse=True)[:50] == pytest.approx(scores.tolist(), abs=6e-3)
        for page, score in zip(found, scores, strict=True):
            assert score == pytest.approx(expected[page], abs=6e-3)


def test_calibration_takes_the_least_time_that_reaches_the_recall(pooled, tmp_path):
    index = build(pooled, tmp_path / "ivf", kind="ivf")
    exact = [ids for ids, _ in index.candidates(pooled[2], 10, Effort(1000, 1200))]
    easy = index.calibrate(pooled[2], exact, 0.5, page_ms=1.0)
    hard = index.calibrate(pooled[2], exact, 1.0, page_ms=1.0)
    assert easy.reached
    assert hard.recall > easy.recall or hard.pages >= easy.pages
    impossible = index.calibrate(pooled[2], [np.array([-1])] * 3, 0.9)
    assert not impossible.reached
    assert impossible.recall == 0


@pytest.mark.parametrize("kind", ["scan", "ivf"])
def test_opened_again_it_answers_the_same_and_damage_is_named(pooled, tmp_path, kind):
    made = build(pooled, tmp_path / "ivf", kind=kind)
    again = CandidateIndex.open(tmp_path / "ivf")
    for (a, x), (b, y) in zip(
        made.candidates(pooled[2], 20, Effort(4, 100)), again.candidates(pooled[2], 20, Effort(4, 100)), strict=True
    ):
        assert a.tolist() == b.tolist()
        assert x.tolist() == y.tolist()
    assert CandidateIndex.verify(tmp_path / "ivf") == []
    for path in (tmp_path / "ivf").iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        if path.suffix != ".json":
            assert CandidateIndex.verify(tmp_path / "ivf")
            with pytest.raises(IndexProblem, match="tune"):
                CandidateIndex.open(tmp_path / "ivf")
        path.write_bytes(whole)


def test_what_does_not_fit_together_is_refused(pooled, tmp_path):
    with pytest.raises(ValueError, match="page ids"):
        CandidateIndex.build([(np.zeros((3, DIM + 1)), np.zeros(3))], DIM, 3, folder=tmp_path / "a")
    build(pooled, tmp_path / "b", kind="flat")
    with pytest.raises(FileExistsError):
        build(pooled, tmp_path / "b", kind="flat")


class Cards:
    """FAISS as it is where two GPUs are, with copies in main memory; `asked` are the probes of each search there."""

    def __init__(self):
        self.faiss = candidate_store.load_faiss()
        self.copies, self.asked = [], []
        self.GpuMultipleClonerOptions = SimpleNamespace
        self.StandardGpuResources = object
        self.IndexFlatIP = self.faiss.IndexFlatIP

    def get_num_gpus(self):
        return 2

    def index_cpu_to_gpu_multiple_py(self, resources, index, options):
        assert len(resources) == 2
        assert options.useFloat16
        assert options.shard
        self.copies.append(type(index).__name__)
        return self.faiss.clone_index(index)

    def GpuParameterSpace(self):
        return SimpleNamespace(set_index_parameter=self.probe)

    def probe(self, index, name, value):
        self.asked.append(value)
        self.faiss.ParameterSpace().set_index_parameter(index, name, value)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_copy_on_cards_answers_what_it_can_and_the_same(pooled, tmp_path, kind):
    index = build(pooled, tmp_path / kind, kind=kind)
    cards = Cards()
    made = GpuCandidates.of(cards, index._index, kind)
    on_cards = CandidateIndex(kind, DIM, index._index, pooled[1], index.bytes, gpu=made)
    assert cards.copies == [{"flat": "IndexFlatIP", "ivf": "IndexIVFScalarQuantizer"}[kind]]
    assert on_cards.on_gpu
    some = np.unique(pooled[1])[::3]
    for effort, allowed in ((Effort(3, 200), None), (Effort(3, MOST + 1), None), (Effort(3, 200), some)):
        expected = index.candidates(pooled[2], 30, effort, allowed=allowed)
        for (a, x), (b, y) in zip(expected, on_cards.candidates(pooled[2], 30, effort, allowed=allowed), strict=True):
            assert a.tolist() == b.tolist()
            assert x == pytest.approx(y, abs=1e-5)
    # A filter stays on the processor; a depth is cut to the pooled vectors that there are before it is judged.
    assert cards.asked == ([3, 3] if kind == "ivf" else [])


def test_what_a_card_has_no_form_for_stays_on_the_processor(pooled, tmp_path):
    index = build(pooled, tmp_path / "hnsw", kind="hnsw")
    assert GpuCandidates.of(Cards(), index._index, "hnsw") is None
    assert GpuCandidates.of(candidate_store.load_faiss(), index._index, "flat") is None  # no card here
    assert not CandidateIndex.open(tmp_path / "hnsw", "cuda").on_gpu


def test_more_than_the_kernels_of_a_card_hold_stays_on_the_processor():
    held = GpuCandidates(None, None)
    assert held.can(MOST, MOST)
    assert not held.can(MOST + 1, 1)
    assert not held.can(1, MOST + 1)
