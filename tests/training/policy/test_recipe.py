"""Recipes: every file in the tree is one, and what is wrong with one is said."""

from pathlib import Path

import pytest

from colsearcher.indexes.errors import UserError
from colsearcher.training.policy.recipe import STAGES, read_recipe, recipe_names, recipe_path
from colsearcher.training.policy.rewards import PRESETS, answer_f1

TREE = Path(__file__).parents[3] / "training/policy/recipes"


def test_every_recipe_in_the_tree_is_one_and_is_for_its_stage():
    found = sorted(TREE.glob("*/*.toml"))
    assert len(found) == 2 * len(recipe_names()) >= 8
    for path in found:
        recipe = read_recipe(path)
        assert recipe.stage == path.stem and recipe_path(path.parent.name, recipe.stage) == path
        assert recipe.budgets().searches == recipe.searches and recipe.reward_sum().terms


def test_a_preset_gives_each_stage_its_half_and_rewards_can_be_named_one_by_one(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('stage = "answer"\nrewards = ["answer_f1*0.5", "colsearcher.training.policy.rewards:answer_em"]\nlr = 1\n')
    recipe = read_recipe(path, ["steps=7", "algorithm=dapo", "rewards=r1-searcher-code"])
    assert recipe.reward_sum() is PRESETS["r1-searcher-code"][STAGES.index("answer")]
    assert (recipe.steps, recipe.algorithm, recipe.lr) == (7, "dapo", 1.0)
    terms = read_recipe(path).reward_sum().terms
    assert [(term.name, term.weight) for term in terms] == [("answer_f1", 0.5), ("answer_em", 1.0)] and terms[
        0
    ].reward is answer_f1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("step=7", "unknown key «step»; did you mean steps?"),
        ("steps=many", "steps is 'many', which is of the wrong type"),
        ("steps=true", "of the wrong type"),
        ("steps=0", "steps is 0; give at least 1"),
        ("steps", "write it as steps=20"),
        ("schedule=linear", "give one of constant, cosine"),
        ("algorithm=ppo", "no algorithm «ppo»"),
        ("stage=third", "give one of retrieval, answer"),
        ("group=1", "give at least 2"),
        ("lr=-1e-5", "lr is -1e-05; give a number above 0"),
        ("kl=nan", "kl is nan; give at least 0"),
        ("seconds=inf", "seconds is inf"),
        ("temperature=0", "temperature is 0.0; give a number above 0"),
        ("seed=-1", "seed is -1; give 0 to 4294967295"),
        ("turn_tokens=0", "turn_tokens is 0"),
        ("at_once=5", "cannot be split into"),
        ("rewards=nice", "no reward «nice»"),
        ("rewards=answer_f1*x", "no number behind the *"),
        ("rewards=[]", "A stage needs a reward"),
    ],
)
def test_what_is_wrong_is_said(change, said):
    with pytest.raises(UserError, match="(?s)" + __import__("re").escape(said)):
        read_recipe(recipe_path("practice", "retrieval"), [change])


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no recipe «nice»; name one of embedded, practice"):
        recipe_path("nice", "answer")
    with pytest.raises(UserError, match="cannot be read"):
        read_recipe(recipe_path(str(tmp_path), "answer"))
    (tmp_path / "answer.toml").write_text("stage = ")
    with pytest.raises(UserError, match="is not TOML"):
        read_recipe(recipe_path(str(tmp_path), "answer"))
    (tmp_path / "answer.toml").write_text('stage = "answer"')
    with pytest.raises(UserError, match="does not say its rewards"):
        read_recipe(recipe_path(str(tmp_path), "answer"))
