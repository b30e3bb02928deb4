import json
import shutil

import numpy as np
import pytest
from documents import text_pdf
from fake_embedder import HashEmbedder

from colsearcher.agent.cli import main
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval import embedder as embedders
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.comparison import DEPTH, METRICS, compare_embedders
from colsearcher.training.question import Paragraph, Question
from colsearcher.training.retrieval_evaluation import evaluate_retrieval

WORDS = [f"word{i}" for i in range(300)]
# Eleven pages of nine words, in three files.
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 9, replace=False)) for i in range(11)]
FILES = {"a.pdf": TEXTS[:4], "b.pdf": TEXTS[4:8], "deep/c.pdf": TEXTS[8:]}


class ShortSighted(HashEmbedder):
    """Sees the first four words of a page."""

    name = "short-sighted"
    revision = "1"

    def embed_pages(self, pages):
        return [type(page)(page.vectors[:4], page.boxes[:4], page.special[:4]) for page in super().embed_pages(pages)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "deep").mkdir()
    for name, pages in FILES.items():
        text_pdf(folder / name, [text.replace(" ", "\n") for text in pages])
    return folder


@pytest.fixture(scope="module")
def questions():
    """Of every page its third and fourth word, and its last three words."""
    places = [Address(name, n) for name, pages in FILES.items() for n in range(1, len(pages) + 1)]
    asked = []
    for place, text in zip(places, TEXTS, strict=True):
        words = text.split()
        asked.append(Question(f"early {place}", " ".join(words[2:4]), ("x",), frozenset({place})))
        asked.append(Question(f"late {place}", " ".join(words[-3:]), ("x",), frozenset({place})))
    return [*asked, Question("nowhere", "what else", ("x",), frozenset())]


@pytest.fixture
def named(monkeypatch):
    """The two fakes by name."""
    for embedder in (HashEmbedder, ShortSighted):
        monkeypatch.setitem(embedders.EMBEDDERS, embedder.name, embedder)


@pytest.fixture
def qa(questions, tmp_path):
    rows = [
        {"id": q.id, "question": q.text, "answers": ["x"], "evidence": [str(place) for place in q.evidence]} for q in questions
    ]
    path = tmp_path / "qa.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_who_sees_less_ranks_worse_and_stores_less(corpus, questions):
    told = []
    pair = HashEmbedder(), ShortSighted()
    compared = compare_embedders(pair, find_sources([corpus]), questions, tell=told.append)
    a, b = compared.a, compared.b
    assert list(a.metrics) == list(METRICS) and a.metrics["ndcg@5"] == 1 > b.metrics["ndcg@5"]
    assert a.pages == b.pages == 11 and (a.vectors_per_page, b.vectors_per_page) == (9, 4)
    assert a.bytes_per_page > 2 * b.bytes_per_page > 0
    assert a.embed_pages_per_s > 0 and b.ms_per_question > 0
    assert len(compared.changes) == 22 and compared.unanswerable == 1
    assert compared.difference == pytest.approx(b.metrics["ndcg@5"] - 1, abs=1e-4)
    low, high = compared.interval
    assert low < compared.difference < high < 0
    assert {change.question.split()[0] for change in compared.changes if change.gain} == {"late"}
    assert all(change.a == 1 for change in compared.changes)
    gains = [abs(change.gain) for change in compared.changes]
    assert gains == sorted(gains, reverse=True)
    again = compare_embedders(pair, find_sources([corpus]), questions)
    assert (again.interval, again.changes) == (compared.interval, compared.changes)


def test_an_embedder_beside_itself_is_a_draw(corpus, questions):
    compared = compare_embedders((HashEmbedder(), HashEmbedder()), find_sources([corpus]), questions)
    assert (compared.difference, compared.interval) == (0, (0, 0))
    assert not any(change.gain for change in compared.changes)


def test_two_indexes_give_what_the_same_files_give(named, corpus, questions, qa, tmp_path, capsys):
    for name in ("hash", "short-sighted"):
        assert main(["index", "add", str(corpus), "--index", str(tmp_path / name), "--embedder", name]) == 0
    folders = ["--index-a", str(tmp_path / "hash"), "--index-b", str(tmp_path / "short-sighted")]
    capsys.readouterr()
    assert main(["compare", "indexes", *folders, "--qa", str(qa), "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert main(["compare", "--a", "hash", "--b", "short-sighted", "--qa", str(qa), str(corpus), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert kept["a"]["embed_pages_per_s"] is None and made["a"]["embed_pages_per_s"] > 0
    for report in (kept, made):
        for side in (report["a"], report["b"]):
            del side["embed_pages_per_s"], side["ms_per_question"], side["bytes_per_page"]
    assert kept == made
    worse = sum(change["a"] != change["b"] for change in made["changes"])
    assert made["gold_rank"] == {"better": 0, "worse": worse, "same": 22 - worse}
    # The metrics are those of `eval retrieval` with the same ranking.
    with Searcher.open(tmp_path / "short-sighted") as searcher:
        scores = evaluate_retrieval(searcher, questions).rankings["late interaction"]
    assert {name: made["b"][name] for name in METRICS} == {name: scores[name] for name in METRICS}


def test_the_table_shows_both_sides(named, corpus, qa, capsys):
    assert main(["compare", "--a", "hash", "--b", "short-sighted", "--qa", str(qa), str(corpus)]) == 0
    text = capsys.readouterr().out
    assert "a: hash" in text and "b: short-sighted" in text and "95 % interval -0." in text
    assert "  late " in text and "rank 1 -> rank " in text and "1 without gold pages left out" in text
    for label in (*METRICS, "bytes per page", "vectors per page", "embed pages/s", "ms per question"):
        assert f"\n{label} " in text


def test_files_that_cannot_be_read_are_named_and_left_out(corpus, questions, tmp_path):
    folder = shutil.copytree(corpus, tmp_path / "corpus")
    (folder / "broken.pdf").write_bytes(b"no PDF")
    compared = compare_embedders((HashEmbedder(), HashEmbedder()), find_sources([folder]), questions)
    assert [problem.document for problem in compared.problems] == ["broken.pdf"] and compared.a.pages == 11


def test_a_page_beyond_the_depth_counts_as_the_place_after_it(corpus, questions):
    changes = compare_embedders((HashEmbedder(), ShortSighted()), find_sources([corpus]), questions).changes
    lost = type(changes[0])("q", 3, None)
    assert lost.gain == 3 - (DEPTH + 1) and type(lost)("q", None, None).gain == 0


def refusal(questions, *paths):
    with pytest.raises(UserError) as caught:
        compare_embedders((HashEmbedder(), HashEmbedder()), find_sources(paths), questions)
    return str(caught.value)


def test_what_cannot_be_compared_is_one_sentence(named, corpus, questions, qa, tmp_path, capsys):
    assert "No question has evidence pages" in refusal(questions[-1:], corpus)
    context = Question("q", "?", ("x",), frozenset({Address("t", 1)}), (Paragraph("t", "x"),))
    assert "bring their own paragraphs" in refusal([context], corpus)
    assert "not among those of the files (first: b.pdf#p=1)" in refusal(questions, corpus / "a.pdf", corpus / "deep")
    beyond = Question("q", "?", ("x",), frozenset({Address("a.pdf", 9)}))
    assert "(first: a.pdf#p=9)" in refusal([beyond], corpus)
    (tmp_path / "empty").mkdir()
    for words, sentence in (
        ([str(tmp_path / "empty")], "There is no PDF and no image"),
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(corpus), "--limit", "0"], "--limit is 0; give at least 1"),
    ):
        assert main(["compare", "--a", "hash", "--b", "hash", "--qa", str(qa), *words]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["compare", "--a", "no-such-embedder", "--b", "hash", "--qa", str(qa), str(corpus)]) == 2
    assert "no-such-embedder" in capsys.readouterr().err
    assert main(["compare", "indexes", "--index-a", str(tmp_path), "--index-b", str(tmp_path), "--qa", str(qa)]) == 2
    assert "There is no index" in capsys.readouterr().err
