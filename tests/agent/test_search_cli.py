"""`ask --search` and `--local` as a user types them."""

import json

import command_line
import pytest
from command_line import answer, call, complaint, write_corpus


@pytest.fixture(scope="module")
def passages(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "passages.jsonl"
    facts = {"Lindholm ferry": "The ferry to Lindholm leaves at nine.", "Tulips": "Tulips are planted in October."}
    path.write_text("".join(json.dumps({"title": title, "text": text}) + "\n" for title, text in facts.items()))
    return path


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(command_line.ENVIRONMENT, "XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_passage_file_is_asked_on_this_machine_only(passages, own_data_folder):
    told = call("ask", "When does the ferry to Lindholm leave?", "--search", passages, "--local", "--json")
    asked = json.loads(told.stdout)
    assert asked["searches"][0]["pages"][0] == "Lindholm ferry#p=1" and len(asked["searches"][0]["pages"]) == 2
    assert asked["trace"].startswith(str(own_data_folder)) and set(asked["models"]) == {"policy", "embedder"}
    lines = told.stderr.splitlines()
    assert lines[0] == "only this machine: a connection to any other one is an error"
    roles = {line.split()[0]: line for line in lines[1:4]}
    assert "SmolLM2-135M-Searcher" in roles["policy"] and "MiniLM" in roles["embedder"] and str(passages) in roles["retriever"]


def test_a_search_that_is_not_there_ends_the_rollout_with_a_sentence():
    asked = answer("ask", "When are tulips planted?", "--search", "http://127.0.0.1:9/retrieve", "--local")
    assert asked["stop_reason"] == "retriever_failed" and asked["abstained"]
    assert "http://127.0.0.1:9/retrieve does not answer" in asked["error"] and asked["models"]["retriever"].endswith(
        "/retrieve"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ask", "x"], "Name what to search"),
        (["ask", "x", "--index", "i", "--search", "{passages}"], "one of the two"),
        (["ask", "x", "--search", "nowhere.jsonl"], "neither an index, a file of passages nor a URL"),
        (["ask", "x", "--search", "gopher://x/y"], "not the address of a search"),
        (["ask", "x", "--search", "http://search.example.org/r", "--local"], "connection to «search.example.org» was refused"),
        (["ask", "x", "--search", "{passages}", "--policy", "no-one/no-model", "--local"], "in the local cache"),
    ],
)
def test_wrong_input_is_one_sentence(words, sentence, passages):
    said = complaint(*(word.format(passages=passages) for word in words))
    lines = [line for line in said.splitlines() if line.startswith("colsearcher: ")]
    assert len(lines) == 1 and sentence in lines[0] and lines[0].endswith(".")


def test_the_environment_variable_is_the_flag(passages, monkeypatch):
    monkeypatch.setitem(command_line.ENVIRONMENT, "COLSEARCHER_LOCAL", "1")
    assert "was refused" in complaint("ask", "x", "--search", "https://search.example.org/r")
    assert "a connection to any other machine is an error" in call("search", "--help").stdout


def test_indexing_and_searching_name_their_models_and_work_on_this_machine_only(tmp_path):
    (tmp_path / "corpus").mkdir()
    added = call("index", "add", write_corpus(tmp_path / "corpus"), "--index", tmp_path / "index", "--local", "--json")
    assert json.loads(added.stdout)["pages_added"] == 4
    assert {"embedder", "OCR"} <= {line.split()[0] for line in added.stderr.splitlines()[:4]}
    found = call("search", "When are roses pruned?", "--index", tmp_path / "index", "--local", "--json")
    assert json.loads(found.stdout)["hits"][0]["address"] == "garden.pdf#p=2"
    assert f"retriever index {tmp_path / 'index'}" in " ".join(found.stderr.split())
