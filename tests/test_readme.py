"""What the READMEs tell people to type exists."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from colsearcher.agent import cli
from colsearcher.agent.flags import parse
from colsearcher.training.policy.algorithms import ALGORITHMS
from colsearcher.training.policy.recipe import STAGES, read_recipe, recipe_names, recipe_path
from colsearcher.training.policy.rewards import PRESETS

ROOT = Path(__file__).resolve().parent.parent
TRAINING = ROOT / "training" / "README.md"


def blocks(path, language=""):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(text for kind, text in found if kind == language)


def commands(path):
    """Lines that call the command, perhaps with variables of the environment before it."""
    return [line for line in blocks(path).splitlines() if re.match(r"(\w+=\S+ )*colsearcher ", line)]


def parsed(line):
    words = shlex.split(line, comments=True)
    name, rest = cli._command(words[words.index("colsearcher") + 1 :])
    module, _, cls = cli.COMMANDS[name].target.partition(":")
    return name, parse(getattr(import_module(module), cls), rest, name)


BLOCKS = blocks(ROOT / "README.md")
COMMANDS = commands(ROOT / "README.md")


@pytest.mark.parametrize("line", [*COMMANDS, *commands(TRAINING)])
def test_a_command_of_the_readmes_parses(line):
    parsed(line)


def test_training_is_told_with_recipes_changes_and_a_reward_that_exist(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(blocks(TRAINING, "python"))
    monkeypatch.syspath_prepend(tmp_path)
    found = [config for name, config in map(parsed, commands(TRAINING)) if name == "train policy"]
    assert len(found) >= 5
    for config in found:
        for stage in STAGES if config.stage == "both" else (config.stage,):
            if not config.recipe.startswith("my-"):
                read_recipe(recipe_path(config.recipe, stage), config.set)
    text = TRAINING.read_text()
    assert all(f"`{name}`" in text for name in [*recipe_names(), *PRESETS, *ALGORITHMS])
    assert all((ROOT / path).exists() for path in re.findall(r"(?:training|agent)/[\w/]+\.(?:py|yaml)", text))


def test_the_readme_names_commands_and_make_verbs_that_exist():
    assert len(COMMANDS) >= 7
    makefile = (ROOT / "Makefile").read_text()
    verbs = re.findall(r"^make (\w+)", BLOCKS, re.MULTILINE)
    assert verbs == ["demo", "test"] and all(f"\n{verb}: " in makefile for verb in verbs)
    text = (ROOT / "README.md").read_text()
    assert all((ROOT / path).exists() for path in re.findall(r"\]\(([\w/.]+)\)", text))
