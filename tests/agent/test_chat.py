"""Conversations: what the policy is told of before, the file, and `chat` as a user types it."""

import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import command_line
import pytest
from command_line import COLSEARCHER, ENVIRONMENT, complaint
from fake_engine import ScriptedEngine
from fake_retriever import Shelf

from colsearcher.agent.ask import ask
from colsearcher.agent.chat import Chat, ChatTurn
from colsearcher.agent.commands.chat import room
from colsearcher.agent.parser import Segment, parse
from colsearcher.agent.protocol import GUIDED, REASONING
from colsearcher.agent.source import Place, Source
from colsearcher.indexes.errors import FileProblem, UserError

TURN = ChatTurn("2026-01-01T00:00:00", "Which valve?", "V-118", ("pump.pdf#p=12",), ("valve",), "answered", "t.jsonl")


def turn(**changes):
    return ChatTurn(**{**TURN.__dict__, **changes})


def test_a_conversation_is_read_back_and_the_last_one_is_found(tmp_path):
    first, second = Chat.begin(tmp_path), Chat.begin(tmp_path)
    with pytest.raises(UserError, match="leave -c out"):
        Chat.last(tmp_path)
    for chat in (first, second, first):
        chat.add(TURN)
        os.utime(chat.path, ns=(time.time_ns(), time.time_ns()))
        time.sleep(0.01)
    assert Chat.last(tmp_path).path == first.path and Chat.last(tmp_path).turns == [TURN, TURN]


def test_a_line_that_was_cut_short_is_left_out_and_a_strange_one_named(tmp_path):
    chat = Chat.begin(tmp_path)
    chat.add(TURN)
    with chat.path.open("a") as file:
        file.write('{"at": "20')
    again = Chat(chat.path)
    again.add(turn(question="And how heavy?"))
    assert [one.question for one in Chat(chat.path).turns] == ["Which valve?", "And how heavy?"]
    chat.path.write_text("{}\n")
    with pytest.raises(FileProblem, match="cannot be read"):
        Chat(chat.path)


def test_the_policy_is_told_what_was_said_before(tmp_path):
    chat = Chat.begin(tmp_path)
    for said in (turn(question="old"), turn(stop_reason="cancelled"), TURN, turn(question="Who </answer>?", answer=None)):
        chat.add(said)
    told = chat.protocol(REASONING, 2).messages("And now?")
    assert [message["content"] for message in told if message["role"] == "user"] == [
        "Which valve?",
        "Who ‹/answer›?",
        "And now?",
    ]
    answers = [message["content"] for message in told if message["role"] == "assistant"]
    assert "<answer>\nV-118\n</answer>" in answers[0] and "I don't know" in answers[1]
    assert parse([Segment(answers[0], "policy")]).answer == "V-118"
    assert chat.protocol(REASONING, 0) == REASONING
    assert len(chat.protocol(GUIDED, 9).examples) == len(GUIDED.examples) + 3
    engine = ScriptedEngine(["<begin_of_query>valve<end_of_query>", "</think><answer>22 Nm</answer>"])
    ask("Which torque?", Source(Place("index", "x"), Shelf(), {}, tmp_path), engine, chat.protocol(REASONING, 2))
    assert "user: Which valve?\nassistant: <think>" in engine.decode(engine.sessions[0].ids)


def test_what_was_said_before_takes_half_of_the_context_at_most(tmp_path):
    chat = Chat.begin(tmp_path)
    for number in range(8):
        chat.add(turn(question=f"Which valve is number {number}?"))

    def told(context):
        engine = ScriptedEngine([], context=context)
        protocol = chat.protocol(REASONING, 8, partial(room, engine, "And now?"))
        return [asked[-2] for asked, _ in protocol.examples], room(engine, "And now?", protocol)

    alone = 10_000 - room(ScriptedEngine([], context=10_000), "And now?", REASONING)
    assert told(10_000)[0] == list("01234567")
    last, left = told(alone + 700)
    assert 0 < len(last) < 8 and last == list("01234567")[-len(last) :] and left >= 350
    assert told(alone + 20)[0] == told(alone - 5)[0] == []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    facts = {"Lindholm ferry": "The ferry to Lindholm leaves at nine.", "Tulips": "Tulips are planted in October."}
    (folder / "p.jsonl").write_text("".join(json.dumps({"title": t, "text": x}) + "\n" for t, x in facts.items()))
    return folder


def chat(corpus, *words, said, code=0):
    command = [COLSEARCHER, "chat", "--search", str(corpus / "p.jsonl"), *words]
    environment = {**ENVIRONMENT, "XDG_DATA_HOME": str(corpus / "data")}
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.slow
def test_questions_are_piped_in_and_the_last_conversation_goes_on(corpus, monkeypatch):
    done = chat(corpus, "--json", said="When does the ferry leave?\n\nAnd when are tulips planted?\n")
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["question"], second["question"]) == ("When does the ferry leave?", "And when are tulips planted?")
    prompts = [_prompt(asked["trace"]) for asked in (first, second)]
    assert "When does the ferry leave?" in prompts[0] and "tulips" not in prompts[0]
    assert prompts[1].index("When does the ferry leave?") < prompts[1].index("And when are tulips planted?")
    shown = chat(corpus, "-c", said="When does the ferry leave?")
    assert shown.stdout.startswith("answer    ") and "2 questions so far" in shown.stderr
    lines = [json.loads(line) for line in Path(first["chat"]).read_text().splitlines()]
    assert [line["question"] for line in lines] == [first["question"], second["question"], first["question"]]
    assert "tulips" in _prompt(lines[2]["trace"]) and lines[0]["answer"] == first["answer"]
    monkeypatch.setitem(command_line.ENVIRONMENT, "XDG_DATA_HOME", str(corpus / "empty"))
    assert "to go on with; leave -c out." in complaint("chat", "-c", "--search", corpus / "p.jsonl")


def _prompt(trace):
    return next(json.loads(line) for line in Path(trace).read_text().splitlines() if '"prompt"' in line)["text"]


def test_ctrl_c_stops_the_answer_and_not_the_chat(corpus, tmp_path):
    command = [COLSEARCHER, "chat", "--json", "--search", str(corpus / "p.jsonl")]
    environment = {**ENVIRONMENT, "XDG_DATA_HOME": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as running:
        running.stdin.write("When are tulips planted?\n")
        running.stdin.flush()
        while not any('"prompt"' in path.read_text() for path in tmp_path.rglob("traces/*.jsonl")):
            assert running.poll() is None
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        stopped = json.loads(running.stdout.readline())
        said, _ = running.communicate("When does the ferry leave?\n", timeout=300)
    assert stopped["stop_reason"] == "cancelled" and stopped["abstained"]
    asked = json.loads(said)
    assert asked["stop_reason"] != "cancelled" and running.returncode == 0
    assert "tulips" not in _prompt(asked["trace"])
