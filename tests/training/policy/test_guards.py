"""When a stage has collapsed, and to where it goes back."""

import pytest

from colsearcher.training.policy.guards import ENTROPY, LIKELIHOOD, Guard, guard_of
from colsearcher.training.policy.recipe import Recipe


def run(rows, **limits):
    guard = Guard(**{"window": 2, "fall": 0.5, "likelihood": 1.0, "entropy": 0.0, **limits})
    for step, row in enumerate(rows, 1):
        if found := guard.saw(step, row):
            return found
    return None


@pytest.mark.parametrize("rate", ["agent/search_rate", "agent/format_rate", "agent/answer_rate"])
def test_a_rate_that_falls_below_half_of_its_best_window(rate):
    found = run([{rate: value} for value in (0.4, 0.8, 0.8, 0.8, 0.5, 0.2, 0.0)])
    assert (found.step, found.good) == (6, 4) and "35% of its rollouts" in found.reason and "80% at best" in found.reason
    assert run([{rate: value} for value in (0.4, 0.8, 0.8, 0.8, 0.5, 0.2, 0.0)], fall=0.0) is None


def test_one_bad_step_is_no_collapse_and_what_never_was_high_cannot_fall():
    assert run([{"agent/search_rate": value} for value in (0.8, 0.8, 0.0, 0.9, 0.8)]) is None
    assert run([{"agent/search_rate": value} for value in (0.15, 0.15, 0.0, 0.0, 0.0)]) is None


def test_right_rollouts_that_become_less_likely():
    rows = [{LIKELIHOOD: value, "reward": 1.0} for value in (-0.5, -0.4, -0.4, -1.2, -1.9)]
    found = run(rows)
    assert (found.step, found.good) == (5, 3) and "less likely: -1.55 nats" in found.reason
    assert run(rows, likelihood=0.0) is None
    # Steps without a right rollout tell nothing.
    assert run([{LIKELIHOOD: -0.4}, {}, {LIKELIHOOD: -0.4}, {}, {}]) is None


@pytest.mark.parametrize(
    ("stage", "rewards", "watched"),
    [
        ("retrieval", "r1-searcher-paper", False),
        ("answer", "r1-searcher-paper", True),
        ("retrieval", "r1-searcher-code", True),
        ("answer", "vrag", True),
        ("retrieval", "vrag", False),
    ],
)
def test_guesses_may_become_less_likely_where_being_right_earns_nothing(stage, rewards, watched):
    recipe = Recipe(stage, (rewards,), guard_window=1)
    guard = guard_of(recipe, recipe.reward_sum())
    found = [guard.saw(step, {LIKELIHOOD: value}) for step, value in enumerate((-0.4, -1.9), 1)]
    assert [bool(own) for own in found] == [False, watched]


def test_entropy_has_a_floor():
    rows = [{ENTROPY: value} for value in (0.5, 0.3, 0.05, 0.01)]
    assert run(rows) is None
    assert run(rows, entropy=0.05).step == 4
