import json

import pytest
from command_line import answer, complaint
from fake_model_server import ChatServer, CompletionServer
from fake_retriever import Shelf
from tiny_policy import tiny_policy

from colsearcher.agent.engine import Sampling
from colsearcher.agent.http_client import HttpClient
from colsearcher.agent.policy_tokenizer import PolicyTokenizer
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.record import Rollout, Task
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.agent.vllm_server import VllmServerEngine
from colsearcher.training.rollout_bench import time_rollouts

FACTS = {"Pump": "The pump of the mill is red.", "Mill": "The mill stands in Lindholm."}


@pytest.fixture
def questions(tmp_path):
    context = [{"title": title, "sentences": [text]} for title, text in FACTS.items()]
    asked = ("Which colour has the pump?", "Where does the mill stand?", "What is left out?")
    file = tmp_path / "qa.jsonl"
    rows = [
        {"id": str(n), "question": text, "answers": ["red"], "context": context, "supporting_facts": [{"title": "Pump"}]}
        for n, text in enumerate(asked)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_an_engine_is_counted_and_compared_with_the_first():
    tasks = [Task(f"Which valve{' or pump' * n}?", Sampling(max_tokens=9)) for n in range(3)]
    first: list[Rollout] = []
    rows = []
    with CompletionServer() as server:
        served = VllmServerEngine(HttpClient(server.url), PolicyTokenizer("tiny", tiny_policy().tokenizer), ["served"])
        other = TransformersEngine(tiny_policy(400))
        other.model.lm_head.weight.data.neg_()
        for name, engine in (("direct", TransformersEngine(tiny_policy(2048))), ("served", served), ("other", other)):
            rows.append(time_rollouts(name, engine, tasks, Shelf(), REASONING, in_flight=2, compared=first))
    assert [row.same for row in rows] == [1.0, 1.0, 0.0]
    assert rows[0].sampled == rows[1].sampled == sum(sum(rollout.mask) for rollout in first) > 0
    assert (rows[0].cached, rows[1].cached, rows[1].prompted) == (None, 0, 0)  # that server's counters stand still
    assert all(row.per_second == row.rollouts / row.seconds and row.rollouts == 3 for row in rows)
    assert (rows[0].failed, rows[2].failed) == (0, 3)


def test_bench_rollouts(questions):
    with ChatServer(["a query\n", "red\n"] * 3) as server:
        hosted = f"openai:small@{server.url}/v1"
        said = answer(
            "bench", "rollouts", "--qa", questions, "--engine", hosted, "--limit", 2, "--in-flight", 1
        )  # three rollouts: the first is not counted
    (row,) = said["rows"]
    assert (row["engine"], row["rollouts"], row["failed"], said["in_flight"]) == (hosted, 2, 0, 1)
    assert row["rollouts_per_s"] == pytest.approx(row["rollouts"] / row["seconds"], abs=1e-4)


def test_what_bench_rollouts_refuses(questions, tmp_path):
    assert "at least 1" in complaint("bench", "rollouts", "--qa", questions, "--limit", 0)
    assert "There is no engine «fast»" in complaint("bench", "rollouts", "--qa", questions, "--engine", "fast")
    plain = tmp_path / "plain.jsonl"
    plain.write_text(json.dumps({"id": "1", "doc": "a.pdf", "question": "q", "answers": ["a"], "evidence_pages": [1]}))
    assert "--index" in complaint("bench", "rollouts", "--qa", plain)
