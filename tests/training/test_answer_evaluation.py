"""Answers scored, runs that go on, runs compared."""

import doctest
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_engine import ScriptedEngine
from fake_retriever import BrokenShelf
from hypothesis import given
from hypothesis import strategies as st

from colsearcher.agent.engine import Sampling
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.record import Budgets
from colsearcher.agent.retriever import Passage
from colsearcher.agent.source import Place, Source
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.training import answer_metrics
from colsearcher.training.answer_evaluation import AnswerRun, compare_runs, evaluate_answers, read_records, summarise_answers
from colsearcher.training.answer_metrics import score_answer
from colsearcher.training.question import Question


def test_doctests():
    assert doctest.testmod(answer_metrics).failed == 0


@pytest.mark.parametrize(
    ("answer", "accepted", "wanted"),
    [
        ("Manchester United", ["Manchester United"], (1, 1, 1)),
        ("It is Manchester United F.C.", ["Manchester United"], (0, pytest.approx(4 / 7), 1)),
        ("Paris London Berlin yes no", ["London Berlin Paris"], (0, pytest.approx(0.75), 0)),
        ("no", ["yes"], (0, 0, 0)),
        ("yes it is", ["yes"], (0, 0, 1)),
        ("the", ["the"], (0, 0, 0)),
        (None, ["London"], (0, 0, 0)),
        ("1898", ["in 1898", "1898"], (1, 1, 1)),
    ],
)
def test_scores_of_answers(answer, accepted, wanted):
    scores = score_answer(answer, accepted)
    assert (scores.em, scores.f1, scores.cem) == wanted


@given(st.text(max_size=12), st.text(max_size=12))
def test_anls_is_the_edit_distance_of_a_slow_reference(a, b):
    a, b = " ".join(a.lower().split()), " ".join(b.lower().split())
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            steps = table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(steps)
    assert answer_metrics._edit_distance(a, b) == table[-1, -1]


def source(retriever=None, kind="index"):
    return Source(Place(kind, "somewhere"), retriever or Passages(), {}, Path())


class Passages:
    def search(self, queries, k):
        page = Passage(Address("ferry.pdf", 1), "The ferry to Lindholm leaves at nine in the morning.", 1.0)
        return [[page] for _ in queries]


def question(name, answers=("nine",), evidence=("ferry.pdf",)):
    pages = frozenset(Address(document, 1) for document in evidence)
    return Question(name, f"When does the ferry to Lindholm leave ({name})?", answers, pages, answerable=bool(pages))


def asked(folder, questions, answers, config=None):
    run = AnswerRun(folder, config or {"policy": "scripted"})
    for one, answer in zip(questions, answers, strict=True):
        turns = ["ferry time<begin_of_query>ferry Lindholm<end_of_query>", f"so</think>\n<answer>{answer}</answer>"]
        settings = {"budgets": Budgets(), "sampling": Sampling()}
        evaluate_answers([one], run, ScriptedEngine(turns), source(), REASONING, **settings)
    return run


def test_a_run_scores_what_the_policy_wrote_and_counts_what_it_did(tmp_path):
    questions = [question("a"), question("b"), question("c", (), ())]
    run = asked(tmp_path, questions, ["nine (1)", "ten", "nine"])
    summary = summarise_answers(run.records)
    assert (summary["em"], summary["f1"], summary["questions"], summary["unanswerable"]) == (0.5, 0.5, 2, 1)
    assert summary["search_rate"] == summary["format_rate"] == summary["gold_found"] == 1
    assert run.records[0].written == "nine" and run.records[0].citations == ("ferry.pdf#p=1",)
    assert run.records[1].given is None  # no page says so
    assert read_records(tmp_path) == run.records


def test_what_no_question_measures_is_none_and_not_0(tmp_path):
    answerable = summarise_answers(asked(tmp_path / "a", [question("a")], ["ten"]).records)
    assert (answerable["f1"], answerable["abstained_rate"]) == (0, 1)
    assert answerable["held_back_rate"] is None and answerable["f1_given"] is None
    others = summarise_answers(asked(tmp_path / "b", [question("c", (), ())], ["nine"]).records)
    assert others["held_back_rate"] == 0
    assert {others[name] for name in ("em", "f1", "f1_low", "f1_high", "f1_given", "abstained_rate", "gold_found")} == {None}


def test_a_run_goes_on_where_it_was_killed(tmp_path):
    asked(tmp_path, [question("a"), question("b")], ["nine", "ten"])
    path = tmp_path / "answers.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-20])
    run = AnswerRun(tmp_path, {"policy": "scripted"})
    assert [record.id for record in run.records] == ["a"]
    asked(tmp_path, [question("a"), question("b")], ["never asked", "ten"])
    again = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in again] == ["a", "b"] and again[0]["written"] == "nine"


def test_what_a_line_holds_does_not_end_it_and_a_kill_may_come_within_a_letter(tmp_path):
    asked(tmp_path, [question("a\u2028b\x85c"), question("é")], ["nine", "ten"])
    path = tmp_path / "answers.jsonl"
    whole = path.read_bytes()
    assert [record.id for record in read_records(tmp_path)] == ["a\u2028b\x85c", "é"] and path.read_bytes() == whole
    path.write_bytes(whole[: whole.rindex("é".encode()) + 1])
    assert [record.id for record in read_records(tmp_path)] == ["a\u2028b\x85c"]
    assert path.read_bytes() == whole[: whole.index(b"\n") + 1]


def test_a_folder_keeps_to_its_configuration(tmp_path):
    AnswerRun(tmp_path, {"policy": "a", "documents": 3})
    with pytest.raises(UserError, match="holds a run with another documents"):
        AnswerRun(tmp_path, {"policy": "a", "documents": 5})
    with pytest.raises(UserError, match="holds no answers"):
        read_records(tmp_path)


def test_two_runs_are_compared_on_what_both_answered(tmp_path):
    run = asked(tmp_path, [question(name) for name in "abcd"], ["nine", "ten", "ten", "nine"])
    better = [replace(record, em=1.0, f1=1.0) for record in run.records[:3]]
    row = compare_runs(run.records, better)["em"]
    assert (row["a"], row["b"], row["difference"]) == (0.3333, 1.0, 0.6667) and row["low"] <= 0.6667 <= row["high"]
    with pytest.raises(UserError, match="no answerable question in common"):
        compare_runs(run.records, [])


def script(answer):
    return ["ferry time<begin_of_query>ferry Lindholm<end_of_query>", f"so</think>\n<answer>{answer}</answer>"]


def test_questions_side_by_side_give_the_records_of_one_after_the_other(tmp_path):
    questions = [question(name) for name in "abcde"]
    answers = ["nine", "a much longer answer than the others", "ten", "nine (1)", "nine"]
    alone = asked(tmp_path / "alone", questions, answers)
    run = AnswerRun(tmp_path / "beside", {})
    engine = ScriptedEngine([script(answer) for answer in answers])
    settings = {"budgets": Budgets(), "sampling": Sampling(), "in_flight": 3}
    told = []
    evaluate_answers(questions, run, engine, source(), REASONING, on_progress=lambda *done: told.append(done), **settings)
    assert told == [(done, 5) for done in range(6)]
    assert [record.id for record in run.records] != list("abcde")  # the long one ends later
    same = {record.id: replace(record, seconds=0.0) for record in run.records}
    assert same == {record.id: replace(record, seconds=0.0) for record in alone.records}


def test_what_the_search_failed_on_is_asked_again(tmp_path):
    run = AnswerRun(tmp_path, {})
    settings = {"budgets": Budgets(), "sampling": Sampling()}
    evaluate_answers([question("a")], run, ScriptedEngine(script("nine")), source(BrokenShelf()), REASONING, **settings)
    assert run.records[0].failed and summarise_answers(run.records)["failed"] == 1
    run = AnswerRun(tmp_path, {})
    evaluate_answers([question("a")], run, ScriptedEngine(script("nine")), source(), REASONING, **settings)
    assert [record.written for record in run.records] == [record.written for record in read_records(tmp_path)] == ["nine"]
    summary = summarise_answers(run.records)
    assert summary["failed"] == 0 and summary["logprob"] == -0.5 and summary["seconds_p50"] <= summary["seconds_p90"]


def test_what_cannot_be_told_of_gold_pages_is_no_zero(tmp_path):
    unknown = replace(question("b", evidence=()), answerable=True)
    questions = [question("a", evidence=("ferry.pdf", "bus.pdf")), unknown, question("c", (), ())]
    run = asked(tmp_path, questions, ["nine"] * 3)
    assert [record.found for record in run.records] == [0.5, None, None]
    assert [record.found for record in read_records(tmp_path)] == [0.5, None, None]
    assert summarise_answers(run.records)["gold_found"] == 0.5
    assert summarise_answers(run.records[1:])["gold_found"] is None


def test_a_service_has_no_gold_pages(tmp_path):
    run = AnswerRun(tmp_path, {})
    settings = {"budgets": Budgets(), "sampling": Sampling()}
    evaluate_answers([question("a")], run, ScriptedEngine(script("nine")), source(kind="service"), REASONING, **settings)
    assert run.records[0].found is None and summarise_answers(run.records)["gold_found"] is None
