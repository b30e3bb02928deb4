"""How hard questions are, and which rest."""

import pytest
from fake_engine import ScriptedEngine
from fake_retriever import BrokenShelf, Shelf

from colsearcher.agent.protocol import REASONING
from colsearcher.agent.record import Budgets
from colsearcher.indexes.errors import UserError
from colsearcher.training.policy.difficulty import (
    Difficulty,
    Rest,
    not_too_hard,
    read_difficulty,
    rollouts_until_right,
    write_difficulty,
)
from colsearcher.training.question import Question

QUESTIONS = [
    Question(name, f"Which {name}?", (answer,), frozenset()) for name, answer in (("a", "one"), ("b", "two"), ("c", "x"))
]


def test_rollouts_until_one_is_right():
    # Rounds of three, two and one: a is right at once, b in the second round, c never.
    said = ["one", "no", "no", "two", "no", "no"]
    engine = ScriptedEngine([[f"</think>\n<answer> {answer} </answer>"] for answer in said])
    rounds = []
    found = dict(
        rollouts_until_right(
            QUESTIONS, engine, Shelf(), REASONING, Budgets(), most=3, on_round=lambda turn, left: rounds.append((turn, left))
        )
    )
    assert {question.id: rollouts for question, rollouts in found.items()} == {
        "a": Difficulty(1, 1),
        "b": Difficulty(2, 2),
        "c": Difficulty(None, 3),
    }
    assert rounds == [(1, 3), (2, 2), (3, 1)]


def test_rounds_go_on_where_they_ended():
    engine = ScriptedEngine([[f"</think>\n<answer> {answer} </answer>"] for answer in ("no", "x")])
    rounds = []
    ((question, difficulty),) = rollouts_until_right(
        QUESTIONS[2:], engine, Shelf(), REASONING, Budgets(), most=6, tried=3, on_round=lambda turn, left: rounds.append(turn)
    )
    assert (question.id, difficulty, rounds) == ("c", Difficulty(5, 5), [4, 5])


def test_a_search_that_failed_says_nothing_of_a_question():
    search, right = ["<begin_of_query>which b<end_of_query>"], ["</think>\n<answer> one </answer>"]
    engine = ScriptedEngine([right, search, search, search, search])
    found = dict(rollouts_until_right(QUESTIONS, engine, BrokenShelf(), REASONING, Budgets(), most=2))
    assert {question.id: rollouts for question, rollouts in found.items()} == {"a": Difficulty(1, 1)}


def test_what_took_more_rollouts_than_the_hardest_is_left_out():
    known = {"a": Difficulty(3, 3), "b": Difficulty(None, 16)}  # of c nothing is known
    kept = {hardest: [question.id for question in not_too_hard(QUESTIONS, known, hardest)] for hardest in (0, 2, 3)}
    assert kept == {0: ["a", "b", "c"], 2: [], 3: ["a"]}
    assert not_too_hard(QUESTIONS, None, 3) == QUESTIONS


def test_a_file_of_difficulties(tmp_path):
    path = tmp_path / "difficulty.jsonl"
    known = {"a": Difficulty(3, 3), "b": Difficulty(None, 16)}
    write_difficulty(path, known)
    assert read_difficulty(path) == known and [file.name for file in tmp_path.iterdir()] == ["difficulty.jsonl"]
    with pytest.raises(UserError, match="train data difficulty"):
        read_difficulty(tmp_path / "none")
    path.write_text("[1]\n")
    with pytest.raises(UserError, match="no file of difficulties"):
        read_difficulty(path)


def test_what_taught_nothing_rests_and_another_is_asked(tmp_path):
    rest = Rest(["a", "b", "c", "d"], pause=10)
    assert rest.instead(["a", "b"], 0, 0) == ["a", "b"]
    rest.saw("a", 0, True)
    rest.saw("b", 0, False)
    other = rest.instead(["a", "b"], 1, 0)
    assert other[0] in "cd" and other[1] == "b" and rest.instead(["a", "b"], 1, 0) == other
    assert rest.instead(["a", "b"], 10, 0) == ["a", "b"], "the pause is over"
    rest.save(tmp_path / "rest.json")
    again = Rest(rest.names, pause=10)
    again.load(tmp_path / "rest.json")
    assert again.instead(["a", "b"], 1, 0) == other
    rest.saw("a", 2, False)
    assert rest.instead(["a", "b"], 3, 0) == ["a", "b"]
    for name in rest.names:
        rest.saw(name, 5, True)
    assert rest.instead(["a", "b"], 6, 0) == ["a", "b"], "where all rest nobody does"
