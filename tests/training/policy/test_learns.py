"""The training learns, it does not only run: from rarely searching to searching, from guessing to answering what was read."""

import logging

import pytest

from colsearcher.training.policy.practice import cold_policy, key_value_world, rates, world_to_train_in
from colsearcher.training.policy.recipe import read_recipe, recipe_path
from colsearcher.training.policy.stage_run import train_in
from colsearcher.training.run_folder import RunFolder

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.mark.slow
def test_a_policy_learns_to_search_and_then_to_answer(tmp_path):
    world = key_value_world(names=500, held_out=100)
    policy = cold_policy(world, tmp_path / "cold")
    told = [rates(policy, world, temperature=1.0), rates(policy, world)]
    assert all(own.search < 0.2 and own.f1 < 0.2 for own in told), told
    for stage in ("retrieval", "answer"):
        recipe = read_recipe(recipe_path("practice", stage))
        run = RunFolder(tmp_path / stage)
        run.start({}, {}, resume=False)
        train_in(world_to_train_in(world, recipe), policy, recipe, run, logging.getLogger(__name__).info)
        told.append(rates(policy, world))
        assert not any("collapse" in row for row in run.rows()), told
    searched, answered = told[2:]
    assert searched.search > 0.9 and searched.f1 < 0.2, told
    assert answered.search > 0.9 and answered.f1 > 0.8, told
