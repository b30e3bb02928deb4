"""`eval answers` and `compare answers` as a user types them."""

import json

import command_line
import pytest
from command_line import answer, call, complaint


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("qa") / "qa.jsonl"
    facts = {"Lindholm ferry": "The ferry to Lindholm leaves at nine.", "Tulips": "Tulips are planted in October."}
    context = [{"title": title, "sentences": [text]} for title, text in facts.items()]
    asked = [
        ("When does the ferry to Lindholm leave?", "nine", "Lindholm ferry"),
        ("When are tulips planted?", "October", "Tulips"),
    ]
    records = [
        {"id": str(i), "question": text, "answers": [gold], "context": context, "supporting_facts": [{"title": title}]}
        for i, (text, gold, title) in enumerate(asked)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(command_line.ENVIRONMENT, "XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.mark.slow
def test_a_run_is_written_goes_on_and_is_compared(questions, tmp_path):
    first = answer("eval", "answers", "--qa", questions, "--limit", "1", "--out", tmp_path / "run")
    assert first["questions"] == 1 and {"em", "f1", "cem", "anls", "search_rate", "format_rate"} <= first.keys()
    both = answer("eval", "answers", "--qa", questions, "--out", tmp_path / "run")
    assert both["questions"] == 2 and both["gold_found"] == 1 and both["search_rate"] == 1
    assert len((tmp_path / "run/answers.jsonl").read_text().splitlines()) == 2
    said = complaint("eval", "answers", "--qa", questions, "--out", tmp_path / "run", "--documents", "2")
    assert "holds a run with another documents" in said
    told = call("compare", "answers", "--a", tmp_path / "run", "--b", tmp_path / "run")
    assert "+0.0000" in told.stdout and "cem" in told.stdout


@pytest.mark.slow
def test_another_source_is_one_flag_and_a_judge_can_come_later(questions, tmp_path):
    other = tmp_path / "passages.jsonl"
    other.write_text(json.dumps({"title": "Tulips", "text": "Tulips are planted in October."}) + "\n")
    out = ("--qa", questions, "--out", tmp_path / "run", "--search", other, "--in-flight", "2")
    first = answer("eval", "answers", *out)
    assert first["gold_found"] == 0.5 and first["judged"] is None and first["seconds_p50"] > 0
    judged = answer("eval", "answers", *out, "--judge", "embedded")
    assert judged["judge"].startswith("SmolLM2-135M-Instruct@") and 0 <= judged["judged_unread"] <= 2
    lines = [json.loads(line) for line in (tmp_path / "run/judged.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {"0", "1"} and all(line["judged"] in (True, False, None) for line in lines)
    assert len((tmp_path / "run/answers.jsonl").read_text().splitlines()) == 2
    with other.open("a") as file:
        file.write(json.dumps({"title": "Lindholm ferry", "text": "The ferry to Lindholm leaves at nine."}) + "\n")
    assert "holds a run with another corpus" in complaint("eval", "answers", *out)


@pytest.mark.slow
def test_baselines_are_runs_that_an_agent_is_compared_with(questions, tmp_path):
    runs = {name: tmp_path / name for name in ("closed-book", "one-shot", "oracle")}
    scored = {
        name: answer("eval", "answers", "--qa", questions, "--out", folder, "--baseline", name, "--documents", "1")
        for name, folder in runs.items()
    }
    assert [summary["searches"] for summary in scored.values()] == [0, 1, 0]
    assert [summary["gold_found"] for summary in scored.values()] == [0, 1, 1]
    configs = {name: json.loads((folder / "config.json").read_text()) for name, folder in runs.items()}
    assert {name: config["baseline"] for name, config in configs.items()} == {name: name for name in runs}
    assert "documents" in configs["one-shot"] and "documents" not in configs["closed-book"]
    said = complaint("eval", "answers", "--qa", questions, "--out", runs["oracle"], "--baseline", "one-shot")
    assert "holds a run with another" in said
    told = call("compare", "answers", "--a", runs["closed-book"], "--b", runs["oracle"])
    assert "+" in told.stdout and "f1" in told.stdout
