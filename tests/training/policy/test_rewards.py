"""Rewards on real rollouts of a scripted policy: what earns them, and every trick that must not."""

from __future__ import annotations

import sys
import types

import pytest
from fake_engine import ScriptedEngine
from fake_retriever import BrokenShelf, Shelf

from colsearcher.agent.protocol import GUIDED, REASONING
from colsearcher.agent.record import Budgets
from colsearcher.agent.rollout import run_rollout
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.training.policy import rewards
from colsearcher.training.policy.outcome import outcome_of
from colsearcher.training.policy.rewards import PRESETS, REWARDS, RewardSum, Term, load_reward
from colsearcher.training.question import Question

GOLD = Question("q", "Which valve replaces part K-40?", ("V-118", "valve V-118"), frozenset({Address("pump.pdf", 12)}))
SEARCH = "I search. <begin_of_query>valve K-40<end_of_query>"
RIGHT = "</think><answer>V-118</answer>"


def outcome(*turns, question=GOLD, protocol=REASONING, shelf=None, **budgets):
    rollout = run_rollout(question.text, ScriptedEngine(turns), shelf or Shelf(), protocol, budgets=Budgets(**budgets))
    return outcome_of(rollout, question)


def scores(found):
    return {name: [sums.total(sums.parts(found)) for sums in stages] for name, stages in PRESETS.items()}


def test_what_a_search_and_the_right_answer_earn():
    found = outcome(SEARCH, RIGHT)
    assert scores(found) == {
        "r1-searcher-paper": [1.0, 1.0],
        "r1-searcher-code": [2.0, 1.0],
        "vrag": [1.0, pytest.approx(0.3)],  # nobody was asked to judge
        "docvqa": [1.0, pytest.approx(1.2)],
    }


def test_an_answer_without_a_search_earns_no_search_reward():
    found = outcome(RIGHT)
    assert rewards.searched(found.searches) == 0
    assert scores(found)["r1-searcher-paper"] == [0.5, 1.0]
    assert scores(found)["r1-searcher-code"][0] == 1.5


TRICKS = {
    "a search without words": ["<begin_of_query> <end_of_query>", RIGHT],
    "documents that the policy writes itself": [
        "<begin_of_documents>(1) [pump.pdf#p=12] V-118<end_of_documents>" + RIGHT,
    ],
    "a query in another spelling": ["<|begin_of_query|>valve K-40<|end_of_query|>" + RIGHT],
    "a query that is never closed": ["<begin_of_query>valve K-40" + RIGHT],
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_that_look_like_a_search_earn_nothing_for_it(trick):
    found = outcome(*TRICKS[trick])
    assert found.searches == 0 and rewards.searched(found.searches) == 0
    assert rewards.tags_balanced_and_searched(found.parsed, found.searches) == 0


ANSWERS = {
    "every candidate at once": "Paris London Berlin yes no V-118 V-119 V-120",
    "yes and no": "yes no",
    "the question again": "part K-40",
    "an answer inside an answer": "<answer>V-118",
    "nothing": " ",
}


@pytest.mark.parametrize("trick", ANSWERS)
def test_answers_that_say_everything_or_nothing_earn_no_cover(trick):
    found = outcome(SEARCH, f"</think><answer>{ANSWERS[trick]}</answer>")
    assert rewards.answer_cover(found.answer, found.accepted) == 0
    assert rewards.answer_em(found.answer, found.accepted) == 0


def test_yes_and_no_match_only_themselves():
    yes = Question("q", "Is it so?", ("yes",), frozenset())
    for said, expected in (("yes", 1.0), ("no", 0.0), ("yes no", 0.0), ("yes it is", 0.0)):
        assert rewards.answer_f1(said, yes.answers) == expected
    assert rewards.answer_cover("Paris London Berlin yes no", ["London"]) == 0


FAULTS = {
    "not answering": ["I do not know."],
    "an answer in the answer": [SEARCH, "</think><answer>V-117 <answer>V-118</answer>"],
    "the answer while thinking": [SEARCH, "<answer>V-118</answer>"],
    "words before the answer": ["</think>It is <answer>V-118 maybe, or V-119, or V-120</answer>"],
    "an answer in the query": ["<begin_of_query><answer>V-118</answer><end_of_query>" + RIGHT],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_cost_what_the_presets_say(fault):
    found = outcome(*FAULTS[fault])
    paper, code = scores(found)["r1-searcher-paper"], scores(found)["r1-searcher-code"]
    assert rewards.format_kept(found.parsed) == 0 and rewards.broken_tags(found.parsed, found.written) == -1
    assert paper[1] < 0 and code[1] < 0


def test_ideographs_and_long_answers_are_faults_where_the_policy_wrote_them():
    chinese = Shelf({"pump.pdf#p=12": "阀门 valve K-40 V-118"})
    assert rewards.broken_tags(*_parsed(outcome(SEARCH, RIGHT, shelf=chinese))) == 0
    assert rewards.broken_tags(*_parsed(outcome("我想 " + SEARCH, RIGHT))) == -1
    long = outcome(SEARCH, "</think><answer>the valve that replaces the part is the valve with number V-118</answer>")
    assert rewards.broken_tags(*_parsed(long)) == 0
    assert rewards.broken_answer(*_parsed(long), long.answer) == -1
    other_side = outcome("Assistant: " + SEARCH, RIGHT)
    assert rewards.broken_answer(*_parsed(other_side), other_side.answer) == -1


def _parsed(found):
    return found.parsed, found.written


def test_tags_that_the_environment_wrote_are_no_merit():
    found = outcome("valve K-40\n", "V-118\n", protocol=GUIDED)
    assert found.answer == "V-118" and found.searches == 1
    assert rewards.format_kept(found.parsed) == 0 and scores(found)["r1-searcher-paper"][0] == 0.5


def test_evidence_is_the_order_of_first_sight_and_a_page_counts_once():
    two = frozenset({("a", 1), ("b", 2)})
    assert rewards.evidence_ndcg([("a", 1), ("b", 2)], two) == 1
    assert rewards.evidence_ndcg([("x", 1)] * 3, two) == 0
    late = rewards.evidence_ndcg([("x", 1), ("x", 2), ("b", 2)], two)
    assert 0 < late < 0.5
    found = outcome(SEARCH, "<begin_of_query>Valve K-40<end_of_query>", RIGHT)
    assert len(found.viewed) == len(set(found.viewed)) and found.repeats == 1
    assert rewards.repeated_query(found.repeats) == -1
    assert rewards.evidence_ndcg([("a", 1)], frozenset()) is None


def test_searches_beyond_the_first_and_beyond_the_budget_cost():
    more = "<begin_of_query>chair of the board<end_of_query>"
    found = outcome(SEARCH, more, "<begin_of_query>shower hall<end_of_query>", RIGHT, searches=2)
    assert (found.searches, found.over_budget) == (2, 1)
    assert rewards.search_cost(found.searches, found.over_budget) == -2


def test_a_failed_retriever_is_unscored_and_never_zero():
    found = outcome(SEARCH, RIGHT, shelf=BrokenShelf())
    assert found.failed
    for stages in PRESETS.values():
        for sums in stages:
            parts = sums.parts(found)
            assert set(parts.values()) == {None} and sums.total(parts) is None


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"vrag"}))
@pytest.mark.parametrize("gold", ["V-118", "yes", "12,480 thousand euros", "Ünal & Søn (1998)"])
def test_every_gold_answer_earns_the_full_reward(preset, gold):
    question = Question("q", GOLD.text, (gold,), GOLD.evidence)
    found = outcome(SEARCH, f"</think><answer>{gold}</answer>", question=question)
    best = {"docvqa": 1.2}.get(preset, 1.0)
    assert scores(found)[preset][1] == pytest.approx(best)


def test_weighted_characters():
    assert rewards.answer_characters("Total $1,250.00", ["Total $1,250.00"]) == 1
    digit = rewards.answer_characters("Total $1,251.00", ["Total $1,250.00"])
    letter = rewards.answer_characters("Totel $1,250.00", ["Total $1,250.00"])
    assert digit < letter < 1
    assert rewards.answer_characters(None, ["x"]) == 0 and rewards.answer_characters("a" * 90, ["b"]) == 0


def short(answer: str | None, limit: int = 3) -> float:
    return float(len((answer or "").split()) <= limit)


def needs_more(moon: str) -> float:
    return 1.0


def test_users_bring_their_own_rewards(monkeypatch):
    module = types.ModuleType("my_rewards")
    module.short = short
    monkeypatch.setitem(sys.modules, "my_rewards", module)
    own = load_reward("my_rewards:short")
    assert RewardSum((Term(own), Term(load_reward("answer_em")))).parts(outcome(SEARCH, RIGHT)) == {
        "short": 1.0,
        "answer_em": 1.0,
    }
    assert [load_reward(reward.__name__) for reward in REWARDS] == list(REWARDS)
    assert {term.reward for stages in PRESETS.values() for sums in stages for term in sums.terms} <= set(REWARDS)
    with pytest.raises(UserError, match="asks for moon; it may ask for accepted, answer"):
        RewardSum((Term(needs_more),))
    for name in ("no_such", "my_rewards:none", "no.module:x", "math", "Term", "score_answer"):
        with pytest.raises(UserError, match="reward"):
            load_reward(name)
