"""Questions are checked before they are learned from."""

import json

import pytest
from command_line import call, complaint

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.training.policy.rewards import answer_characters, broken_tags
from colsearcher.training.policy.validation import ANSWER_REWARDS, validate
from colsearcher.training.question import Question

GOLD = frozenset({Address("a.pdf", 1)})


def test_gold_answers_have_to_earn_what_a_right_answer_earns():
    good = Question("good", "Who built it?", ("Ada Finch", "A. Finch"), GOLD)
    empty = Question("empty", "What is missing?", ("the",), GOLD)  # nothing is left of it when articles are dropped
    found = validate([good, empty], [], ANSWER_REWARDS)
    assert found.wrong and all(name.startswith("empty: ") for name in found.unrewarded)
    assert not validate([good], [], [*ANSWER_REWARDS, answer_characters]).wrong


def test_what_is_asked_twice_or_held_out_is_listed_by_its_words():
    questions = [
        Question("1", "Who built it?", ("Ada",), GOLD),
        Question("2", "who built it", ("Ada",), frozenset()),
        Question("3", "Which?", ("one two three four five six seven eight nine ten eleven",), GOLD),
        Question("4", "Nothing?", (), frozenset(), answerable=False),
    ]
    found = validate(questions, [Question("x", "Which ?", ("y",), GOLD)], ANSWER_REWARDS)
    assert (found.asked_twice, found.held_out, found.without_gold, found.long) == (["2"], ["3"], ["2"], ["3"])
    assert not found.wrong


def test_a_reward_asks_for_the_answer_alone_or_for_nothing_else():
    def short(answer: str | None) -> float:
        return float(answer is not None and len(answer.split()) <= 5)

    question = Question("1", "Who?", ("Ada", "a name of more than five words"), GOLD)
    assert validate([question], [], [short]).unrewarded == ["1: short gives 0.0 to «a name of more than five words»"]
    with pytest.raises(UserError, match="broken_tags asks for parsed"):
        validate([question], [], [broken_tags])


def test_the_command(tmp_path):
    path = tmp_path / "qa.jsonl"
    record = {"id": "1", "doc": "a.pdf", "question": "Who?", "answers": ["Ada"], "evidence_pages": [1]}
    path.write_text(json.dumps(record) + "\n")
    assert "1 questions" in call("train", "data", "validate", path).stdout
    path.write_text(json.dumps(record | {"answers": ["the"]}) + "\n")
    done = call("train", "data", "validate", path, "--json", code=2)
    assert json.loads(done.stdout)["unrewarded"]
    assert "no reward «nice»" in complaint("train", "data", "validate", path, "--reward", "nice")
