import json
import socket
import sys
from dataclasses import replace

import mteb
import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from documents import picture
from fake_embedder import HashEmbedder
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from PIL import ImageColor

from colsearcher.agent.cli import main
from colsearcher.indexes.errors import MissingExtra, UserError
from colsearcher.indexes.records import PageEmbedding
from colsearcher.retrieval.minilm import MiniLMEmbedder
from colsearcher.retrieval.render import draw
from colsearcher.training.mteb_adapter import IndexedModel
from colsearcher.training.mteb_evaluation import VIDORE, evaluate_tasks, find_tasks
from colsearcher.training.retrieval_metrics import ndcg_at, recall_at

COLOURS = ("red", "lime", "blue", "yellow", "magenta", "cyan", "black", "orange")
LINES = (
    "The ferry to Lindholm leaves at nine",
    "Tulips are planted in October",
    "Roses need pruning in March",
    "Tickets cost twelve crowns",
    "The annual report shows a profit",
    "Bread bakes for forty minutes",
    "The museum is closed on Mondays",
    "Batteries are recycled at the harbour",
)
QUESTIONS = (
    "When does the red ferry leave?",
    "When do I plant lime tulips?",
    "When are blue roses pruned?",
    "What does a yellow ticket cost?",
    "How large was the magenta profit?",
    "How long does cyan bread bake?",
    "Is the black museum open on Monday?",
    "Where can I recycle orange batteries?",
)
# The last two questions have gold pages that do not answer them, so that the scores are neither 0 nor 1.
GOLD = {f"q{i}": {f"d{i if i < 6 else i - 5}": 1} for i in range(8)}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("a test went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def metadata(name, category, languages):
    return TaskMetadata(
        name=name,
        description="Eight pages of one line each.",
        reference=None,
        dataset={"path": "nowhere/at-all", "revision": "1"},
        type="DocumentUnderstanding",
        category=category,
        eval_splits=["test"],
        eval_langs=languages,
        main_score="ndcg_at_5",
        date=("2026-01-01", "2026-01-02"),
        domains=["Written"],
        task_subtypes=[],
        license="mit",
        annotations_creators="derived",
        dialect=[],
        modalities=["text", "image"],
        sample_creation="created",
        bibtex_citation="",
    )


def page(line, colour):
    """A line of text above a strip of colour."""
    image = picture([line])
    image.paste(colour, (0, 400, 900, 500))
    return image


def pictures():
    rows = {"id": [f"d{i}" for i in range(8)], "image": [page(*pair) for pair in zip(LINES, COLOURS, strict=True)]}
    return Dataset.from_dict(rows, features=Features({"id": Value("string"), "image": ImageFeature()}))


def split(corpus):
    queries = Dataset.from_dict({"id": list(GOLD), "text": list(QUESTIONS)})
    return RetrievalSplitData(corpus=corpus, queries=queries, relevant_docs=dict(GOLD), top_ranked=None)


class PicturesTask(AbsTaskRetrieval):
    metadata = metadata("TinyPages", "t2i", ["eng-Latn"])

    def load_data(self, num_proc=None, **_):
        self.dataset = {"default": {"test": split(pictures())}}
        self.data_loaded = True


class TwoLanguagesTask(AbsTaskRetrieval):
    metadata = metadata("TinyPagesInTwoLanguages", "t2i", {"english": ["eng-Latn"], "french": ["fra-Latn"]})

    def load_data(self, num_proc=None, **_):
        self.dataset = {language: {"test": split(pictures())} for language in ("english", "french")}
        self.data_loaded = True


class TextsTask(AbsTaskRetrieval):
    metadata = metadata("TinyTexts", "t2t", ["eng-Latn"])

    def load_data(self, num_proc=None, **_):
        rows = {"id": [f"d{i}" for i in range(8)], "title": [f"Page {i}" for i in range(8)], "text": list(LINES)}
        self.dataset = {"default": {"test": split(Dataset.from_dict(rows))}}
        self.data_loaded = True


class FarAwayTask(AbsTaskRetrieval):
    metadata = metadata("FarAway", "t2i", ["eng-Latn"])

    def load_data(self, num_proc=None, **_):
        raise ConnectionError("the hub does not answer")


class ColourEmbedder(HashEmbedder):
    """Reads pixels: each band of the picture is the name of the colour nearest to its middle."""

    name = "some/colours"

    def embed_pages(self, pages):
        self.pages_embedded += len(pages)
        return [self._page(draw(page.image, max_side=90)) for page in pages]

    def embed_queries(self, texts):
        return [
            replace(query, weights=np.float32([10 if word in COLOURS else 1 for word in query.words]))
            for query in super().embed_queries(texts)
        ]

    def _page(self, image):
        names = (*COLOURS, "white")
        table = np.array([ImageColor.getrgb(name) for name in names])
        column = np.asarray(image, int)[5::10, image.width - 5]
        seen = [names[np.abs(table - pixel).sum(1).argmin()] for pixel in column]
        n = len(seen)
        return PageEmbedding(self._vectors(seen), np.tile(np.float32([0, 0, 1, 1]), (n, 1)), np.zeros(n, bool))


def run(embedder, task, out, ranking="late"):
    """mteb's score of a task beside this project's own, from the ranking of the very index that mteb asked."""
    with IndexedModel(embedder, ranking=ranking) as model:
        result = mteb.evaluate(model, task, cache=mteb.ResultCache(out), co2_tracker=False, show_progress_bar=False)
        predictions = model.search(
            Dataset.from_dict({"id": list(GOLD), "text": list(QUESTIONS)}), top_k=5, task_metadata=task.metadata
        )
        found = model.searcher.search(QUESTIONS, 5, ranking=ranking)
    ranked = [[hit.document for hit in answer.hits] for answer in found]
    assert [list(pages) for pages in predictions.values()] == ranked
    assert [list(pages.values()) for pages in predictions.values()] == [[h.score for h in answer.hits] for answer in found]
    gold = [set(pages) for pages in GOLD.values()]
    pairs = list(zip(ranked, gold, strict=True))
    own = sum(ndcg_at(*pair, 5) for pair in pairs) / 8, sum(recall_at(*pair, 5) for pair in pairs) / 8
    (scores,) = result.task_results[0].scores["test"]
    assert (scores["ndcg_at_5"], scores["recall_at_5"]) == pytest.approx(own, abs=1e-5)
    return scores, ranked


def test_a_model_that_reads_pixels_gets_the_pictures(tmp_path):
    scores, ranked = run(ColourEmbedder(), PicturesTask(), tmp_path)
    assert [pages[0] for pages in ranked] == [f"d{i}" for i in range(8)]
    assert 0.75 <= scores["ndcg_at_5"] < 1
    assert [path.name for path in tmp_path.rglob("TinyPages.json")] == ["TinyPages.json"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["colsearcher__some-colours"]


def test_a_model_that_reads_words_gets_them_by_ocr(tmp_path):
    _, ranked = run(MiniLMEmbedder(), PicturesTask(), tmp_path)
    assert [pages[0] for pages in ranked] == [f"d{i}" for i in range(8)]


def test_texts_become_pages_of_words_and_the_default_ranking_is_a_result_of_its_own(tmp_path):
    for ranking in ("late", "default"):
        run(HashEmbedder(), TextsTask(), tmp_path, ranking)
    assert len(list(tmp_path.rglob("TinyTexts.json"))) == 2


def test_the_same_pages_in_two_languages_are_embedded_once_and_results_are_kept(tmp_path):
    embedder, told = ColourEmbedder(), []
    (row,), missing = evaluate_tasks(embedder, [TwoLanguagesTask()], tmp_path, tell=told.append)
    assert missing == {} and row.main_score == row.ndcg_5 and embedder.pages_embedded == 8
    assert any("indexed already" in line for line in told)
    assert evaluate_tasks(embedder, [TwoLanguagesTask()], tmp_path, tell=told.append) == ([row], {})
    assert embedder.pages_embedded == 8 and "not run again" in told[-1]


def test_only_the_candidates_of_a_reranking_task_count():
    task = PicturesTask()
    task.load_data()
    data = task.dataset["default"]["test"]
    candidates = {name: ["d7", "d2"] for name in GOLD}
    with IndexedModel(ColourEmbedder()) as model:
        model.index(data["corpus"], task_metadata=task.metadata, hf_split="test", hf_subset="default")
        found = model.search(data["queries"], top_k=5, top_ranked=candidates)
    assert {frozenset(pages) for pages in found.values()} == {frozenset({"d2", "d7"})}


@pytest.fixture
def registered(monkeypatch):
    """The tiny tasks, under their names in mteb."""
    for task in (TextsTask, FarAwayTask):
        monkeypatch.setitem(sys.modules["mteb.get_tasks"]._TASKS_REGISTRY, task.metadata.name, task)


def test_the_command_prints_the_scores_and_names_what_it_could_not_run(registered, tmp_path, capsys):
    command = ["eval", "mteb", "--tasks", "TinyTexts,FarAway", "--out", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["tasks"]
    assert row["task"] == "TinyTexts" and row["main_score"] == row["ndcg@5"] == report["mean"]["ndcg@5"]
    assert "the hub does not answer" in report["not_run"]["FarAway"]
    assert len(list((tmp_path / "results").rglob("TinyTexts.json"))) == 1
    assert main(command) == 0
    assert "mean" in capsys.readouterr().out
    assert main(["eval", "mteb", "--tasks", "FarAway", "--out", str(tmp_path)]) == 2
    assert "the hub does not answer" in capsys.readouterr().err


def test_the_tasks_of_vidore_have_names_in_mteb():
    assert [len(find_tasks([name])) for name in VIDORE] == [10, 4, 10]
    names = ["VidoreDocVQARetrieval", "Vidore2ESGReportsRetrieval", "Vidore3FinanceEnRetrieval"]
    tasks = find_tasks([*names, names[0]])
    assert [task.metadata.name for task in tasks] == names
    assert [task.metadata.main_score for task in tasks] == ["ndcg_at_5", "ndcg_at_5", "ndcg_at_10"]


def test_what_cannot_be_run_is_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"no task and no benchmark «VidoreDocVQA».*did you mean VidoreDocVQARetrieval\?$"):
        find_tasks(["VidoreDocVQA"])
    with pytest.raises(UserError, match=r"ViDoRe's are those of ViDoRe\(v1\)"):
        find_tasks(["xyz"])
    with pytest.raises(UserError, match="«STS12» does not ask in words for pages"):
        find_tasks(["STS12"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        evaluate_tasks(HashEmbedder(), [], tmp_path / "file" / "out")
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtra, match=r"pip install 'colsearcher\[mteb\]'"):
        find_tasks(["VidoreDocVQARetrieval"])
