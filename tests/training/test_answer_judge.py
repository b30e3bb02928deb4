"""A judge's verdicts: what it is asked, how it is read, and that it goes on where it was stopped."""

import doctest
from dataclasses import replace

import pytest
from fake_engine import ScriptedEngine

from colsearcher.indexes.errors import UserError
from colsearcher.training import answer_judge
from colsearcher.training.answer_evaluation import AnswerRecord, compare_runs
from colsearcher.training.answer_judge import judge_answers, read_verdicts, summarise_verdicts

RECORD = AnswerRecord(
    "a",
    "When are {tulips} planted?",
    ("October", "in autumn"),
    "in October",
    None,
    (),
    (),
    1.0,
    0,
    0,
    0,
    0,
    True,
    True,
    "answered",
    5,
    1.0,
)
RECORDS = [replace(RECORD, id=name) for name in "abc"]


def test_doctests():
    assert doctest.testmod(answer_judge).failed == 0


def test_the_judge_is_asked_in_one_prompt_and_its_verdict_is_read(tmp_path):
    engine = ScriptedEngine([["right"], ["I cannot say."], ["Wrong."]])
    judge_answers(RECORDS, tmp_path, engine, in_flight=2)
    verdicts = read_verdicts(tmp_path)
    assert {name: verdict.judged for name, verdict in verdicts.items()} == {"a": True, "b": None, "c": False}
    prompt = engine.decode(engine.sessions[0].ids)
    assert "Question: When are {tulips} planted?\nKey: October or in autumn\nAnswer: in October\n" in prompt
    assert all(session.closed for session in engine.sessions)
    assert summarise_verdicts(list(verdicts.values())) == {"judge": "scripted@1", "judged": 0.5, "judged_unread": 1}


def test_what_needs_no_judge_is_not_asked(tmp_path):
    records = [replace(RECORD, id="x", written=None), replace(RECORD, id="y", answerable=False)]
    engine = ScriptedEngine([])
    judge_answers([*records, replace(RECORD, id="z", stop="engine_failed")], tmp_path, engine)
    assert {name: verdict.judged for name, verdict in read_verdicts(tmp_path).items()} == {"x": False} and not engine.sessions


def test_judging_goes_on_after_a_failure_and_each_judge_has_its_own(tmp_path):
    judge_answers(RECORDS[:1], tmp_path, ScriptedEngine(["right"]))
    with pytest.raises(UserError, match="The judge failed"):
        judge_answers(RECORDS, tmp_path, ScriptedEngine(["wrong"], fail_at=1))
    path = tmp_path / "judged.jsonl"
    path.write_text(path.read_text() + '{"id": "b", "ju')  # killed in the middle of a line
    again = ScriptedEngine(["wrong"])
    judge_answers(RECORDS, tmp_path, again)
    assert len(again.sessions) == 2
    assert [verdict.judged for verdict in read_verdicts(tmp_path).values()] == [True, False, False]
    other = ScriptedEngine(["right"])
    other.name = "other"
    judge_answers(RECORDS, tmp_path, other)
    assert len(other.sessions) == 3 and all(verdict.judged for verdict in read_verdicts(tmp_path).values())
    assert [verdict.judged for verdict in read_verdicts(tmp_path, "scripted@1").values()] == [True, False, False]


def test_verdicts_are_compared_where_both_could_be_read():
    row = compare_runs(RECORDS, RECORDS, ({"a": True, "b": None, "c": True}, {"a": True, "b": True, "c": False}))["judged"]
    assert (row["a"], row["b"], row["difference"]) == (1.0, 0.5, -0.5)
    assert "judged" not in compare_runs(RECORDS, RECORDS)
