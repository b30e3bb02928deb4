"""A trace told again: put together from its events, printed, and as a page in which nothing of it can act."""

import re
from html.parser import HTMLParser

import pytest
from command_line import call, complaint
from fake_engine import ScriptedEngine
from fake_retriever import Gallery, Shelf
from PIL import Image

from colsearcher.agent.answer import make_answer
from colsearcher.agent.conversation import NO_SUCH_PLACE
from colsearcher.agent.protocol import REASONING, SEEING
from colsearcher.agent.replay import replay_of
from colsearcher.agent.replay_page import replay_page
from colsearcher.agent.rollout import run_rollout
from colsearcher.agent.trace import Trace, read_trace
from colsearcher.indexes.errors import FileProblem

QUESTION = "Which valve replaces part K-40?"
TURNS = ["I search<begin_of_query>valve K-40<end_of_query>", "so</think>\n<answer>V-118</answer>"]


def trace_of(path, turns=TURNS, pages=None):
    with Trace(path) as trace:
        trace.write("ask", {"question": QUESTION, "models": {"policy": "scripted@1"}, "settings": {}})
        rollout = run_rollout(QUESTION, ScriptedEngine(turns), Shelf(pages), REASONING, on_event=trace.write)
        answer = make_answer(rollout)
        trace.write("answer", answer.as_json())
    return rollout


def test_a_replay_has_every_stretch_and_token_of_the_rollout(tmp_path):
    rollout = trace_of(tmp_path / "t.jsonl")
    replay = replay_of(read_trace(tmp_path / "t.jsonl"))
    written = [step for step in replay.steps if step.kind != "search"]
    assert "".join(step.text for step in written) == rollout.text
    assert sum(len(step.tokens) for step in replay.steps) == sum(rollout.mask)
    assert [step.text for step in replay.searches] == ["valve K-40"]
    assert [hit.address for hit in replay.searches[0].hits] == [str(p.address) for p in rollout.searches[0].passages]
    assert replay.answer["answer"] == "V-118" and replay.stop == "answered"
    ends = [step.end_s for step in replay.steps]
    assert ends == sorted(ends) and all(step.begin_s <= step.end_s for step in replay.steps)


def test_a_trace_that_was_cut_short_is_told_as_far_as_it_goes(tmp_path):
    trace_of(tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text().splitlines(keepends=True)
    for count in range(1, len(lines)):
        (tmp_path / "cut.jsonl").write_text("".join(lines[:count]))
        replay = replay_of(read_trace(tmp_path / "cut.jsonl"))
        assert replay.question == QUESTION and QUESTION in replay_page(replay)
    (tmp_path / "cut.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(FileProblem, match="does not begin with a question"):
        replay_of(read_trace(tmp_path / "cut.jsonl"))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else_and_nothing_in_it_acts(tmp_path):
    bad = '<script>alert(1)</script><img src=x onerror="alert(2)"> V-118 part K-40 valve'
    trace_of(
        tmp_path / "t.jsonl", ["<b onclick='x'>go<begin_of_query>K-40 <i>valve<end_of_query>", TURNS[1]], {"a.pdf#p=1": bad}
    )
    asked = []

    def draw(address, query):
        asked.append((address, query))
        return Image.new("RGB", (60, 80), "white")

    page = replay_page(replay_of(read_trace(tmp_path / "t.jsonl")), draw)
    tags = Tags()
    tags.feed(page)
    assert {tag for tag, _ in tags.seen} & {"script", "b", "i", "iframe", "link"} == set()
    assert not [name for _, attributes in tags.seen for name in attributes if name.startswith("on")]
    assert all(a["src"].startswith("data:image/jpeg;base64,") for tag, a in tags.seen if tag == "img")
    assert not re.search(r"(?:src|href)=.http", page) and "default-src 'none'" in page
    assert asked == [("a.pdf#p=1", "K-40 <i>valve")]


def test_replay_prints_what_ask_printed_and_writes_the_page(tmp_path):
    trace_of(tmp_path / "t.jsonl")
    told = call("replay", tmp_path / "t.jsonl")
    assert "V-118" in told.stdout and "pump.pdf#p=12" in told.stdout and "valve K-40" in told.stderr
    written = call("replay", tmp_path / "t.jsonl", "--html", tmp_path / "t.html")
    assert "name the index with --index" in written.stderr
    assert "V-118" in (tmp_path / "t.html").read_text()
    assert "cannot be read" in complaint("replay", tmp_path / "none.jsonl")


def test_looks_and_entropies_are_told_too(tmp_path):
    path = tmp_path / "t.jsonl"
    turns = [TURNS[0], "<look>pump.pdf#p=12&box=0.1,0.1,0.5,0.5</look>", "<look>there</look>", TURNS[1]]
    with Trace(path) as trace:
        trace.write("ask", {"question": QUESTION, "models": {"policy": "scripted@1"}, "settings": {}})
        run_rollout(QUESTION, ScriptedEngine(turns, sees=True), Shelf(), SEEING, on_event=trace.write, viewer=Gallery())
    replay = replay_of(read_trace(path))
    looks = [step for step in replay.steps if step.kind == "look"]
    assert [step.place for step in looks] == ["pump.pdf#p=12&box=0.1,0.1,0.5,0.5", None]
    assert looks[1].notice == NO_SUCH_PLACE
    drawn = []
    page = replay_page(replay, lambda address, query: drawn.append(address) or Image.new("RGB", (9, 9)))
    assert looks[0].place in drawn and NO_SUCH_PLACE in page and "entropy 0.25 nats" in page
    assert f"look      {looks[0].place}" in call("replay", path).stderr
