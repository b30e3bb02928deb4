import doctest
import itertools
import json

import numpy as np
import pytest
from documents import text_pdf
from matplotlib.text import Text

from colsearcher.indexes.errors import UserError
from colsearcher.training.search_bench import bench, distractors, environments, plot, truth
from colsearcher.training.search_bench.corpus import Corpus, find_source, prepare
from colsearcher.training.search_bench.engine_table import PEERS, EngineRow, rows_of
from colsearcher.training.search_bench.engines import measure
from colsearcher.training.search_bench.page_vectors import Chunks, PageVectors, clear_unless_made_by, write_pages
from colsearcher.training.search_bench.presets import DIM, PRESETS, Preset
from colsearcher.training.search_bench.runner import measure_row
from colsearcher.training.search_bench.synthetic import SyntheticText

TINY = Preset("small", "pages", 40, questions=5, document_questions=0, timed=3)
TEXTS = 90


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_pages(tmp_path_factory.mktemp("base"), SyntheticText(TEXTS).texts(), DIM)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare(TINY, SyntheticText(TEXTS), tmp_path_factory.mktemp("bench"), print)


def test_doctests():
    for module in (truth, measure):
        assert doctest.testmod(module).failed == 0


def test_pages_are_written_in_order_and_a_run_cut_short_goes_on(tmp_path):
    pages = [np.full((n, 4), n, np.float16) for n in (3, 1, 2, 5, 4)]
    made = []

    def make(i):
        made.append(i)
        if made == [0, 1]:
            with (tmp_path / "vectors.npy").open("ab") as file:
                file.write(b"half a page")
            raise KeyboardInterrupt
        return pages[2 * i : 2 * i + 2]

    with pytest.raises(KeyboardInterrupt):
        write_pages(tmp_path, Chunks(3, make), 4)
    written = write_pages(tmp_path, Chunks(3, make), 4)
    assert made == [0, 1, 1, 2] and written.offsets_P1.tolist() == [0, 3, 4, 6, 11, 15]
    assert all((written.page(i) == page).all() for i, page in enumerate(pages))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["offsets.npy", "vectors.npy"]


def test_files_of_another_recipe_are_made_again(tmp_path):
    folder = tmp_path / "made"
    clear_unless_made_by(folder, {"seed": 1})
    (folder / "kept").touch()
    clear_unless_made_by(folder, {"seed": 1})
    assert (folder / "kept").exists()
    clear_unless_made_by(folder, {"seed": 2})
    assert not (folder / "kept").exists()


def test_real_pages_tile_the_passages_and_leave_the_documents_pages_alone():
    lengths = np.array([60] * 40 + [15, 700])
    base = PageVectors(np.empty((lengths.sum(), 2), np.float16), np.concatenate([[0], np.cumsum(lengths)]))
    pages = distractors.real_pages(base, 40)
    assert [first for first, _ in pages] == [0, *(stop for _, stop in pages[:-1])] and pages[-1][1] == lengths.sum()
    assert [stop - first for first, stop in pages[-2:]] == [15, 700]
    assert all((stop - first) % 60 == 0 and stop - first <= distractors.LONGEST for first, stop in pages[:-2])


def test_chunks_of_pages_are_the_same_in_every_run_and_hold_each_real_page_once(base):
    first, second = (distractors.page_chunks(base, TEXTS, 60) for _ in range(2))
    pages = [page for i in range(first.count) for page in first.make(i)]
    again = [page for i in reversed(range(second.count)) for page in second.make(i)]
    assert len(pages) == 60 and all((a == b).all() for a, b in zip(pages, again, strict=True))
    real = [base.vectors_N_D[start:stop] for start, stop in distractors.real_pages(base, TEXTS)]
    places = [[i for i, page in enumerate(pages) if np.array_equal(page, own)] for own in real]
    assert all(len(place) == 1 for place in places) and max(place[0] for place in places) >= len(real)
    assert 300 < np.mean([len(page) for page in pages]) < 550


def test_a_distractor_is_no_copy_and_its_windows_keep_their_distance(base):
    owner = np.repeat(np.arange(len(base)), base.lengths_P)
    for seed in range(20):
        made = distractors.distractor(base, np.random.default_rng(seed))
        vectors, origins = made.vectors_N_D.astype(np.float32), base.vectors_N_D[made.origins_N].astype(np.float32)
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 2e-3
        windows = np.split(np.arange(len(vectors)), made.windows[:-1])
        cosines = (vectors * origins).sum(1)
        assert all(16 <= len(window) <= 48 and (np.diff(made.origins_N[window]) == 1).all() for window in windows)
        assert all(np.ptp(cosines[window]) < 5e-3 for window in windows) and np.ptp(cosines) > 1e-2
        assert cosines.min() > distractors.COSINE[0] - 2e-3 and cosines.max() < distractors.COSINE[1] + 2e-3
        assert len({owner[made.origins_N[window[0]]] for window in windows}) == len(windows) > 5
        assert all(len(set(owner[made.origins_N[window]])) == 1 for window in windows)


def test_the_truth_is_that_of_a_loop_over_pages(corpus, monkeypatch):
    monkeypatch.setattr(truth, "BLOCK_ROWS", 1_000)
    pages = PageVectors.open(corpus.folder)
    queries = SyntheticText(TEXTS).questions(TINY.questions, 0).vectors
    naive = [[float((pages.page(i).astype(np.float64) @ query.T).max(0).sum()) for query in queries] for i in range(len(pages))]
    assert np.allclose(truth.exact_scores(pages, queries), naive, atol=1e-4)
    assert np.load(corpus.folder / "truth.npy").tolist() == np.argsort(-np.array(naive), axis=0)[:10].T.tolist()


def test_of_equal_pages_the_truth_has_the_first():
    assert truth.best_pages(np.array([[1.0], [2.0], [2.0], [0.0]]), 2).tolist() == [[1, 2]]


class Remembering:
    """An engine that knows the answers to the even queries, and half of those to the odd ones when asked many at once."""

    def __init__(self, folder):
        self.queries = np.split(np.load(folder / "queries.npy"), np.load(folder / "query_offsets.npy")[1:-1])
        self.truth = np.load(folder / "truth.npy").tolist()
        self.asked = []

    def build(self, data, index):
        self.built = True

    def open(self, index):
        self.built = False

    def search(self, queries, k):
        numbers = [next(i for i, own in enumerate(self.queries) if np.array_equal(own, query)) for query in queries]
        self.asked.append(len(numbers))
        return [self.truth[i] if i % 2 == 0 else [*self.truth[i][:5], *range(-5, 0)] for i in numbers]

    def bytes(self):
        return 7_000

    def facts(self):
        return {"note": "remembered"}


def request(corpus, index, **changes):
    values = {"module": "", "options": {}, "data": corpus.folder, "index": index, "reuse": True, "timed": 3, "concurrent": 2}
    return measure.Request(**values | {"seconds": 60.0, "row": index / "row.json"} | changes)


def test_a_row_is_measured_over_all_queries_and_a_kept_index_is_opened(corpus, tmp_path):
    engine = Remembering(corpus.folder)
    row = measure.measure(engine, request(corpus, tmp_path / "index"))
    assert row["recall@10"] == pytest.approx((3 * 1.0 + 2 * 0.5) / 5) and row["note"] == "remembered" and engine.built
    assert (row["queries_timed"], row["queries_answered"]) == (3, 5)
    assert row["bytes_per_vector"] == round(7_000 / corpus.vectors, 1)
    assert engine.asked == [1, 1, 1, 1, 1, 2, 2, 1, 2]
    again = measure.measure(engine, request(corpus, tmp_path / "index"))
    assert not engine.built and again["build_s"] == row["build_s"]
    assert measure.measure(engine, request(corpus, tmp_path / "index", reuse=False))["build_s"] >= 0 and engine.built


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (EngineRow("a", "no_such_module"), "ModuleNotFoundError: No module named 'no_such_module'"),
        (EngineRow("a", "torch_exact", memory=10**15), "GB are free"),
        (EngineRow("a", "torch_exact", minutes=0), "was not done after 0 minutes"),
        (EngineRow("a", "torch_exact", peer="impossible"), "its installation failed: "),
    ],
)
def test_what_goes_wrong_becomes_a_row_without_numbers(corpus, row, reason, monkeypatch, tmp_path):
    monkeypatch.setitem(environments.PINS, "impossible", ("not a requirement",))
    measured = measure_row(row, corpus, 3, tmp_path, print)
    assert reason in measured["note"] and measured["ms_per_query"] is None and measured["recall@10"] is None
    bench.add_ratios([measured])
    assert measured["ratio_to_torch"] is None
    assert f"not measured: {measured['note']}" in bench.table([measured])[1]


def test_ratios_say_how_many_times_faster():
    rows = [{"engine": "torch fp32 exact", "ms_per_query": 50.0}, {"engine": "fast-plaid", "ms_per_query": 200.0}]
    rows.append({"engine": "ours", "ms_per_query": 10.0})
    bench.add_ratios(rows)
    assert [(row["ratio_to_torch"], row["ratio_to_fast_plaid"]) for row in rows] == [(1.0, 4.0), (0.25, 1.0), (5.0, 20.0)]


def test_every_row_names_a_module_an_environment_and_sizes_that_exist():
    for row in {row.name: row for preset in PRESETS for row in rows_of(preset)}.values():
        assert (bench.Path(measure.__file__).parent / f"{row.module}.py").exists()
        assert row.peer is None or row.peer in environments.PINS
        assert set(row.presets) <= set(PRESETS) and (row in PEERS) != row.ours
    with pytest.raises(UserError, match="no engine «nobody»"):
        bench.bench_search(TINY, data=None, out=bench.Path("nowhere"), only=["nobody"], tell=print)


def test_a_tiny_bench_from_nothing_to_table_plot_and_document(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "find_source", lambda *_: SyntheticText(TEXTS))
    only = ["torch fp32 exact", "colsearcher fp16"]
    report = bench.bench_search(TINY, data=None, out=tmp_path, only=only, tell=print)
    assert [row["engine"] for row in report["rows"]] == only
    assert all(row["recall@10"] == 1.0 and row["ms_per_query"] > 0 and row["qps_16"] > 0 for row in report["rows"])
    torch_row, own = report["rows"]
    assert torch_row["bytes_per_vector"] == 4 * DIM and own["bytes_per_vector"] > 2 * DIM and own["build_rss_mb"] > 0
    assert set(own["plan"]) == {"engine", "reason"} and own["ratio_to_torch"] > 0 and own["ratio_to_fast_plaid"] is None
    assert report["vectors"]["pages"] == 40 and "not comparable" in report["vectors"]["source"]
    picture = tmp_path / "small-synthetic-part.png"
    assert report["plot"] == str(picture) and picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(picture.with_suffix(".json").read_text()) == report
    assert isinstance(prepare(TINY, SyntheticText(TEXTS), tmp_path, print), Corpus)


@pytest.fixture
def data(tmp_path):
    """A data folder in little: 80 passages, a document of two pages and one without words, questions on both."""
    rng = np.random.default_rng(0)
    words = "harbour ferry tulip engine glacier violin treaty orbit walnut senate copper lantern".split()
    texts = [" ".join(rng.choice(words, rng.integers(30, 60))) for _ in range(80)]
    records = [{"title": f"Title {i}", "text": text} for i, text in enumerate(texts)]
    asked = [{"question": f"Which {word} is the oldest?"} for word in words]
    (tmp_path / "data" / "multihop").mkdir(parents=True)
    (tmp_path / "data" / "docs").mkdir()
    text_pdf(tmp_path / "data" / "docs" / "ferries.pdf", ["The ferry leaves\nat nine", "", "Walnut engines"])
    for name, lines in (("multihop/corpus", records), ("multihop/dev_context", asked), ("docs/qa", asked[::-1])):
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "data"


def test_real_text_becomes_pages_and_is_made_once(data, tmp_path):
    preset = Preset("10k", "pages", 15, questions=3, document_questions=2, timed=1)
    told = []
    corpus = prepare(preset, find_source(data, tmp_path / "out", told.append), tmp_path / "out", told.append)
    pages = PageVectors.open(corpus.folder)
    assert (corpus.pages, corpus.queries) == (15, 5) and "distractor" in corpus.about
    assert np.allclose(np.linalg.norm(pages.vectors_N_D.astype(np.float32), axis=1), 1, atol=2e-3)
    assert sorted(pages.lengths_P)[0] < 10 < distractors.SHORTEST < np.median(pages.lengths_P)
    assert len(set((corpus.folder / "queries.txt").read_text().splitlines())) == 5
    assert any("indexing 1 documents" in line for line in told) and any("fitting" in line for line in told)
    told.clear()
    small = Preset("small", "passages", 20, questions=3, document_questions=0, timed=1)
    assert prepare(small, find_source(data, tmp_path / "out", told.append), tmp_path / "out", told.append).pages == 20
    assert prepare(preset, find_source(data, tmp_path / "out", told.append), tmp_path / "out", told.append) == corpus
    assert not any("fitting" in line or "indexing" in line for line in told)


def test_where_the_data_is_absent_the_vectors_are_synthetic_and_that_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    assert find_source(None, tmp_path, told.append).name == "synthetic" and "synthetic" in told[0]
    with pytest.raises(UserError, match=r"holds no multihop/corpus\.jsonl"):
        find_source(tmp_path, tmp_path, told.append)


def test_names_in_a_crowded_plot_do_not_cover_one_another():
    points = [(f"engine {i}", 10 + i % 4, 1.0 - 0.02 * i) for i in range(12)]
    rows = [{"engine": name, "ms_per_query": x, "recall@10": y} for name, x, y in points]
    unmeasured = {"engine": "none", "ms_per_query": None, "recall@10": None}
    (axes,) = plot.draw([*rows, unmeasured], ["engine 1"], "title").axes
    assert sorted(text.get_text() for text in axes.texts) == sorted(name for name, _, _ in points)
    boxes = [Text.get_window_extent(text) for text in axes.texts if text.get_rotation() == 0]
    assert len(boxes) > 8 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert plot.draw([unmeasured], [], "nothing was measured").axes
