import pytest
from fake_engine import ScriptedEngine
from fake_retriever import Shelf

from colsearcher.agent.protocol import REASONING
from colsearcher.agent.rollout import run_rollout
from colsearcher.agent.trace import Trace, read_trace
from colsearcher.indexes.errors import FileProblem

TURNS = ["<begin_of_query>valve K-40 ünï<end_of_query>", "</think><answer>V-118</answer>"]


def test_a_trace_holds_the_whole_conversation(tmp_path):
    path = tmp_path / "new" / "one.jsonl"
    with Trace(path) as trace:
        trace.write("ask", {"question": "Which valve?", "models": {"policy": "scripted"}})
        rollout = run_rollout("Which valve?", ScriptedEngine(TURNS), Shelf(), REASONING, on_event=trace.write)
        seen_while_open = read_trace(path)
    events = read_trace(path)
    assert events == seen_while_open
    ids = [token for event in events for token in ([event.data["id"]] if event.kind == "token" else event.data.get("ids", []))]
    assert tuple(ids) == rollout.prompt_ids + rollout.ids
    (hits,) = [event.data for event in events if event.kind == "hits"]
    assert [hit["address"] for hit in hits["hits"]] == [str(page.address) for page in rollout.searches[0].passages]
    assert events[-1].kind == "stop" and events[-1].data["stop"] == "answered"
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)


def test_a_trace_cut_in_the_middle_of_a_line_is_read_up_to_there(tmp_path):
    path = tmp_path / "one.jsonl"
    with Trace(path) as trace:
        trace.write("query", {"query": "a"})
        trace.write("query", {"query": "b"})
    path.write_bytes(path.read_bytes()[:-3])
    assert [event.data for event in read_trace(path)] == [{"query": "a"}]


def test_a_trace_is_never_overwritten(tmp_path):
    path = tmp_path / "one.jsonl"
    Trace(path).close()
    with pytest.raises(FileProblem, match="exists already"):
        Trace(path)


def test_not_a_trace(tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(FileProblem, match="Line 1"):
        read_trace(path)
    with pytest.raises(FileProblem, match="cannot be read"):
        read_trace(tmp_path / "missing")
