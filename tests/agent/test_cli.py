"""What a user types, by subprocess: exit codes, one JSON document on stdout, one sentence on stderr."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import COLSEARCHER, ENVIRONMENT, answer, call, complaint, write_corpus
from documents import locked_pdf, text_pdf
from PIL import Image


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def index(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "index"
    report = answer("index", "add", corpus, "--index", folder)
    assert report["pages_added"] == 4 and report["problems"] == []
    return folder


def test_help_answers_at_once_and_without_torch():
    best = min(_seconds(COLSEARCHER, "--help") - _seconds(sys.executable, "-c", "pass") for _ in range(5))
    assert best < 0.15
    probe = "import sys; from colsearcher.agent.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def _seconds(*command):
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def test_search_finds_the_page_and_shows_its_plan(index):
    found = answer("search", "When should I cut the roses?", "--index", index, "-k", 2)
    assert found["hits"][0]["address"] == "garden.pdf#p=2" and len(found["hits"]) == 2
    assert found["hits"][0]["score"] == pytest.approx(sum(found["hits"][0]["parts"].values()), abs=1e-5)
    assert found["plan"]["engine"] == "exact" and found["timing_ms"]["total"] > 0
    assert found["hits"][0]["evidence"][0].startswith("garden.pdf#p=2&box=")


def test_a_filter_comes_first_and_one_that_matches_nothing_gives_nothing(index):
    found = answer("search", "roses", "--index", index, "--filter", "document = 'ferry.pdf'")
    assert {hit["document"] for hit in found["hits"]} == {"ferry.pdf"}
    assert answer("search", "roses", "--index", index, "--filter", "page > 9")["hits"] == []
    assert "no page matches the filter" in call("search", "roses", "--index", index, "--filter", "page > 9").stdout
    words = ("search", "zeppelin", "--index", index, "--ranking", "words")
    assert call(*words).stdout == "no page has a word of the question\n"
    assert call(*words, "--filter", "page < 9").stdout.endswith("word of the question and matches the filter «page < 9»\n")


def test_look_draws_the_page_its_box_and_its_heat_map(index, tmp_path):
    call("look", "garden.pdf#p=2", "--index", index, "-o", tmp_path / "plain.png")
    shown = call("look", "garden.pdf#p=2", "--query", "pruning roses", "--index", index, "-o", tmp_path / "heat.png")
    call("look", "garden.pdf#p=2&box=0,0,0.5,0.5", "--index", index, "-o", tmp_path / "box.png")
    plain, heat, box = (pixels(tmp_path / f"{name}.png") for name in ("plain", "heat", "box"))
    assert plain.shape == heat.shape and max(plain.shape) == 1600
    assert box.shape[:2] == (round(plain.shape[0] / 2), 800)
    changed = np.argwhere((plain != heat).any(2)) / plain.shape[:2]
    # The page's one line stands between 10 % and 25 % of its height and left of 75 % of its width.
    assert changed[:, 0].min() > 0.05 and changed[:, 0].max() < 0.3 and changed[:, 1].max() < 0.8
    assert "garden.pdf#p=2&box=" in shown.stderr


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image, dtype=int)


def test_ask_answers_with_cited_pages_or_not_at_all(index):
    asked = answer("ask", "When are tulips planted?", "--index", index)
    assert set(asked) >= {"question", "answer", "abstained", "citations", "searches", "stop_reason", "usage", "models", "trace"}
    assert asked["searches"] and asked["stop_reason"] and Path(asked["trace"]).is_file()
    seen = {page for search in asked["searches"] for page in search["pages"]}
    assert set(asked["citations"]) <= seen
    assert bool(asked["citations"]) != asked["abstained"]
    text = call("ask", "What is the capital of Bhutan?", "--index", index).stdout
    assert text.startswith("answer    none:") and "nearest" in text


def test_adding_again_changes_nothing_and_removing_removes(corpus, index, tmp_path):
    again = answer("index", "add", corpus, "--index", index)
    assert (again["pages_added"], again["pages_unchanged"]) == (0, 4)
    copy = tmp_path / "index"
    subprocess.run(["cp", "-r", index, copy], check=True)
    assert answer("index", "rm", "ferry.pdf", "--index", copy) == {"documents_removed": 1, "pages_removed": 2}
    assert answer("index", "info", "--index", copy)["pages"] == 2
    assert answer("index", "compact", "--index", copy)["segments_after"] == 1
    assert answer("index", "verify", "--index", copy)["ok"]
    segment = next((copy / "segments").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    assert "garden.pdf" in call("index", "verify", "--index", copy, code=1).stdout


def test_what_an_index_was_made_with_need_not_be_said_again(corpus, tmp_path):
    folder = tmp_path / "never"
    answer("index", "add", corpus / "ferry.pdf", "--index", folder, "--ocr", "never")
    assert "ocr" not in answer("plan", corpus, "--index", folder)["models"]
    done = answer("index", "add", corpus, "--index", folder)
    assert (done["pages_added"], done["pages_unchanged"], done["index"]["manifest"]["ocr"]) == (2, 2, "never")


def test_plan_says_what_would_happen(corpus, tmp_path):
    plan = answer("plan", corpus)
    assert (plan["pages"], plan["pages_ocr"], plan["problems"]) == (4, 0, [])
    assert plan["seconds_expected"] > 0 and plan["bytes_expected"] > 0 and len(plan["measured_on"]) == 3
    assert "all-MiniLM-L6-v2" in plan["models"]["embedder"]
    pooled = answer("plan", corpus, "--pool", "cluster:3", "--codec", "2bit", "--drop-originals")
    assert 0 < pooled["bytes_expected"] < plan["bytes_expected"] / 9


def test_doctor_is_well_here():
    report = answer("doctor")
    assert report["ok"], report
    assert {"python", "torch", "faiss", "poppler", "gpu", "cache"} <= {check["part"] for check in report["checks"]}


def test_evaluation_prints_the_contract_and_its_baselines(index, tmp_path):
    qa = tmp_path / "qa.jsonl"
    records = [
        {"id": "1", "doc": "ferry.pdf", "question": "When does the ferry leave?", "answers": ["nine"], "evidence_pages": [1]},
        {"id": "2", "doc": "garden.pdf", "question": "When are roses pruned?", "answers": ["March"], "evidence_pages": [2]},
        {"id": "3", "doc": "garden.pdf", "question": "Who won?", "answers": ["Not answerable"], "evidence_pages": []},
    ]
    qa.write_text("".join(json.dumps(record) + "\n" for record in records))
    scores = answer("eval", "retrieval", "--qa", qa, "--index", index)
    assert scores["questions"] == 2 and scores["recall@1"] == 1.0 and scores["ndcg@5"] == 1.0
    assert set(scores["rankings"]) == {"default", "late interaction", "bm25", "mean-pooled"}
    assert answer("eval", "retrieval", "--qa", qa, "--index", index, "--limit", 1, "--no-baselines")["questions"] == 1


def test_evaluation_of_records_with_context_needs_no_index(tmp_path):
    context = [
        {"title": "Lindholm", "sentences": ["Lindholm is an island.", " A ferry goes there."]},
        {"title": "Tulip", "sentences": ["Tulips are planted in October."]},
    ]
    record = {"id": "h1", "question": "When are tulips planted?", "answers": ["October"], "context": context}
    (tmp_path / "qa.jsonl").write_text(json.dumps({**record, "supporting_facts": [{"title": "Tulip", "sent_id": 0}]}) + "\n")
    assert answer("eval", "retrieval", "--qa", tmp_path / "qa.jsonl")["recall@1"] == 1.0


def test_every_bad_file_is_named_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = text_pdf(folder / "good.pdf", ["A page that can be read, with words."])
    locked_pdf(folder / "locked.pdf")
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "login.pdf").write_text("<!doctype html><html><body>Please sign in</body></html>")
    (folder / "noise.pdf").write_bytes(bytes(range(256)) * 20)
    (folder / "junk-before.pdf").write_bytes(b"x" * 1200 + good.read_bytes())
    (folder / "notes.txt").write_text("not indexed")
    report = answer("index", "add", folder, "--index", tmp_path / "index")
    assert {p["document"] for p in report["problems"]} == {"locked.pdf", "empty.pdf", "login.pdf", "noise.pdf"}
    assert report["pages_added"] == 2 and report["files_ignored"] == 1
    assert report["documents_recovered"] == ["junk-before.pdf"]
    assert all(problem["reason"].endswith(".") for problem in report["problems"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["serch", "x"], "no command «serch»"),
        (["index"], "needs a verb"),
        (["search", "x"], "--index"),
        (["search", "x", "--index", "{tmp}/none"], "There is no index at"),
        (["search", "x", "--index", "{index}", "-k", "0"], "--k is 0; give at least 1"),
        (["search", "x", "--index", "{index}", "--filter", "colour = 'red'"], "is not understood"),
        (["search", " ", "--index", "{index}"], "is empty"),
        (["search", "x", "--index", "{index}", "--embedder", "colpali"], "made by embedder minilm, not by colpali"),
        (["index", "add", "{tmp}/nowhere", "--index", "{tmp}/i"], "does not exist"),
        (["index", "add", "{tmp}", "--index", "{tmp}/i"], "no PDF and no image"),
        (["index", "add", "{corpus}", "--index", "{tmp}/i", "--embedder", "none"], "no embedder «none»"),
        (["index", "add", "{corpus}", "--index", "{index}", "--ocr", "never"], "made with --ocr auto, not never"),
        (["index", "rm", "x.pdf", "--index", "{index}"], "no document «x.pdf»"),
        (["look", "ferry.pdf", "--index", "{index}"], "is not a page address"),
        (["look", "ferry.pdf#p=9", "--index", "{index}"], "pages 1 to 2"),
        (["look", "ferry.pdf#p=1", "--index", "{index}", "-o", "{tmp}/a.txt"], "no picture's name"),
        (["look", "ferry.pdf#p=1", "--index", "{index}", "--side", "0"], "--side is 0"),
        (["ask", "  ", "--index", "{index}"], "The question is empty"),
        (
            ["index", "add", "{corpus}", "--index", "{tmp}/i", "--page-seconds", "nan"],
            "--page-seconds is nan",
        ),
        (["search", "caf\udce9", "--index", "{index}"], "is not UTF-8 text"),
        (["ask", "x", "--index", "{tmp}/none"], "There is no index at"),
        (["eval", "retrieval", "--qa", "{tmp}/none.jsonl"], "cannot be read"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(words, sentence, index, corpus, tmp_path):
    filled = [word.format(tmp=tmp_path, index=index, corpus=corpus) for word in words]
    said = complaint(*filled)
    lines = [line for line in said.splitlines() if line.startswith("colsearcher: ")]
    assert len(lines) == 1 and sentence in lines[0] and lines[0].endswith(".")


def test_a_missing_program_is_named_with_its_install_command(corpus, tmp_path):
    command = [COLSEARCHER, "index", "add", str(corpus), "--index", str(tmp_path / "i"), "--renderer", "poppler"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**ENVIRONMENT, "PATH": ""})
    assert done.returncode == 2 and "apt-get install" in done.stderr and "poppler-utils" in done.stderr


def test_an_empty_index_is_said_so(corpus, tmp_path):
    text_pdf(tmp_path / "one.pdf", ["Only this page, and soon none."])
    call("index", "add", tmp_path / "one.pdf", "--index", tmp_path / "i")
    call("index", "rm", "one.pdf", "--index", tmp_path / "i")
    for command in ("search", "ask"):
        assert "holds no pages" in complaint(command, "anything", "--index", tmp_path / "i")


def test_codecs_are_compared_on_an_index(index, tmp_path):
    qa = tmp_path / "QA.jsonl"
    record = {"id": "1", "doc": "ferry.pdf", "question": "What do tickets cost?", "answers": ["twelve"], "evidence_pages": [2]}
    qa.write_text(json.dumps(record) + "\n")
    rows = answer("bench", "codecs", "--index", index, "--qa", qa)["codecs"]
    assert [row["codec"] for row in rows] == ["fp16", "int8", "4bit", "2bit", "1bit"]
    assert rows[0]["recall"] == rows[0]["ndcg"] == 1.0
