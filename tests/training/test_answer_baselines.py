"""What an agent has to beat: each baseline sees what it should and no more, and is scored as the agent is."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_embedder import HashEmbedder
from fake_engine import ScriptedEngine
from fake_retriever import BrokenShelf
from tiny_policy import tiny_policy_of

from colsearcher.agent.engine import Sampling
from colsearcher.agent.protocol import BEGIN_DOCUMENTS, END_DOCUMENTS, REASONING
from colsearcher.agent.record import Budgets
from colsearcher.agent.source import Place, Source
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.passages import index_passages
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.answer_baselines import NOTHING, TOKENS, baseline_rollouts
from colsearcher.training.answer_evaluation import AnswerRun, compare_runs, evaluate_answers, summarise_answers
from colsearcher.training.question import Question

DOCUMENTS = {
    "Ferry": ("The ferry to Lindholm leaves at nine in the morning.",),
    "Harbour": ("Ferry, Lindholm: when does the ferry leave? Ask the harbour master, does he know?",),
    "Tulip": ("Tulips are planted in October, ten centimetres deep.",),
}
FERRY = Question("ferry", "When does the ferry to Lindholm leave?", ("nine",), frozenset({Address("Ferry", 1)}))
TULIP = Question("tulip", "When are tulips planted?", ("October",), frozenset({Address("Tulip", 1)}))
NOBODY = Question("nobody", "Who painted the moon?", (), frozenset(), answerable=False)


@pytest.fixture
def source(tmp_path):
    with index_passages(tmp_path / "index", DOCUMENTS, HashEmbedder()) as index:
        yield Source.of(Searcher(index, HashEmbedder()))


def ask(folder, baseline, questions, engine, source, documents=1, budgets=None, **settings):
    run = AnswerRun(folder, {"baseline": baseline})
    budgets = budgets or Budgets(documents=documents)
    settings = {"budgets": budgets, "sampling": Sampling(), "baseline": baseline, **settings}
    evaluate_answers(questions, run, engine, source, REASONING, **settings)
    return {record.id: record for record in run.records}


def prompts(engine):
    return [engine.decode(session.ids[: -len(session.sampled)]) for session in engine.sessions]


def test_a_closed_book_is_asked_the_question_and_nothing_else(tmp_path):
    engine = ScriptedEngine([["nine"], ["\n October \nbecause I say so"]])
    records = ask(tmp_path / "run", "closed-book", [FERRY, TULIP], engine, NOTHING)
    assert [prompt.count("Question: ") for prompt in prompts(engine)] == [1, 1]
    for prompt, question in zip(prompts(engine), (FERRY, TULIP), strict=True):
        assert prompt.rstrip().endswith(f"Question: {question.text}") and BEGIN_DOCUMENTS not in prompt
    assert all(session.closed for session in engine.sessions)
    assert (records["ferry"].written, records["tulip"].written) == ("nine", "October")
    summary = summarise_answers(list(records.values()))
    assert summary["em"] == summary["f1"] == 1 and summary["abstained_rate"] == 1  # no page says so
    assert summary["search_rate"] == summary["searches"] == summary["gold_found"] == summary["format_rate"] == 0


def test_one_shot_is_one_search_with_the_questions_own_words(tmp_path, source):
    engine = ScriptedEngine(["nine"])
    record = ask(tmp_path / "few", "one-shot", [FERRY], engine, source)["ferry"]
    (prompt,) = prompts(engine)
    assert "(1) [Harbour#p=1] Ferry, Lindholm" in prompt and "(2)" not in prompt
    assert record.queries == (FERRY.text,) and record.found == 0 and record.given is None
    engine = ScriptedEngine(["nine"])
    record = ask(tmp_path / "more", "one-shot", [FERRY], engine, source, documents=2)["ferry"]
    assert "at nine in the morning" in prompts(engine)[0]
    assert record.found == 1 and (record.given, record.citations) == ("nine", ("Ferry#p=1",))
    assert record.stop == "answered" and record.policy_tokens == len("nine") + 1 and record.confidence.logprob == -0.5


def test_an_oracle_is_shown_the_gold_pages_and_searches_nothing(tmp_path, source):
    engine = ScriptedEngine([["nine"], ["October"], ["I don't know"]])
    records = ask(tmp_path / "run", "oracle", [FERRY, TULIP, NOBODY], engine, source)
    ferry, tulip, nobody = prompts(engine)
    assert "at nine in the morning" in ferry and "Harbour" not in ferry and "Tulip" not in ferry
    assert "(1) [Tulip#p=1]" in tulip and BEGIN_DOCUMENTS not in nobody
    summary = summarise_answers(list(records.values()))
    assert (summary["em"], summary["f1_given"], summary["held_back_rate"]) == (1, 1, 1)
    assert (summary["searches"], summary["gold_found"]) == (0, 1)
    with pytest.raises(UserError, match="gold pages of question «ferry» are not in"):
        lost = replace(FERRY, evidence=frozenset({Address("Ferry", 2)}))
        ask(tmp_path / "lost", "oracle", [lost], engine, source)
    service = Source(Place("service", "http://somewhere/retrieve"), source.retriever, {}, Path())
    with pytest.raises(UserError, match="not a search service"):
        ask(tmp_path / "service", "oracle", [FERRY], engine, service)


def test_pages_are_cut_to_the_agents_budget(tmp_path, source):
    engine = ScriptedEngine(["nine"])
    ask(tmp_path, "oracle", [FERRY], engine, source, budgets=Budgets(document_tokens=45))
    shown = prompts(engine)[0].partition(BEGIN_DOCUMENTS)[2].partition(END_DOCUMENTS)[0].strip()
    assert shown.startswith("(1) [Ferry#p=1]") and "…" in shown and len(shown) <= 45


def test_side_by_side_is_one_after_the_other(source):
    policy = tiny_policy_of("llama")
    asked = [FERRY, TULIP, *(replace(TULIP, id=str(n), text=f"How deep are {n} tulips planted?") for n in range(4))]
    written = []
    for in_flight in (1, 4):
        engine = TransformersEngine(policy)
        more = {"budgets": Budgets(), "sampling": Sampling(), "in_flight": in_flight}
        found = dict(baseline_rollouts("one-shot", asked, engine, source, **more))
        written.append([found[number].ids for number in range(len(asked))])
    assert written[0] == written[1] and all(0 < len(ids) <= TOKENS for ids in written[0])


def test_what_failed_is_asked_again_and_nothing_else(tmp_path, source):
    broken = replace(source, retriever=BrokenShelf())
    failed = ask(tmp_path, "one-shot", [FERRY, TULIP], ScriptedEngine(["nine"]), broken)
    assert {record.stop for record in failed.values()} == {"retriever_failed"}
    half = ask(tmp_path, "one-shot", [FERRY, TULIP], ScriptedEngine([["nine"], ["October"]], fail_at=1), source)
    assert all(record.failed for record in half.values())
    engine = ScriptedEngine([["nine"], [""]])
    records = ask(tmp_path, "one-shot", [FERRY, TULIP], engine, source)
    assert (records["ferry"].written, records["tulip"].written, records["tulip"].stop) == ("nine", None, "eos")
    ask(tmp_path, "one-shot", [FERRY, TULIP], engine, source)
    assert len(engine.sessions) == 2
    small = ScriptedEngine(["nine"], context=50)
    assert ask(tmp_path / "small", "one-shot", [FERRY], small, source)["ferry"].stop == "engine_failed"


def test_a_baseline_is_compared_with_another(tmp_path, source):
    closed = ask(tmp_path / "a", "closed-book", [FERRY, TULIP], ScriptedEngine([["ten"], ["October"]]), NOTHING)
    oracle = ask(tmp_path / "b", "oracle", [FERRY, TULIP], ScriptedEngine([["nine"], ["October"]]), source)
    row = compare_runs(list(closed.values()), list(oracle.values()))["em"]
    assert (row["a"], row["b"], row["difference"]) == (0.5, 1, 0.5)
