"""What the README tells people to type exists."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from colsearcher.agent import cli
from colsearcher.agent.flags import parse

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = "\n".join(re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL))
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("colsearcher ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line):
    words = shlex.split(line, comments=True)[1:]
    name, rest = cli._command(words)
    module, _, cls = cli.COMMANDS[name].target.partition(":")
    parse(getattr(import_module(module), cls), rest, name)


def test_the_readme_names_commands_and_make_verbs_that_exist():
    assert len(COMMANDS) >= 7
    makefile = (ROOT / "Makefile").read_text()
    verbs = re.findall(r"^make (\w+)", BLOCKS, re.MULTILINE)
    assert verbs == ["demo", "test"] and all(f"\n{verb}: " in makefile for verb in verbs)
    text = (ROOT / "README.md").read_text()
    assert all((ROOT / path).exists() for path in re.findall(r"\]\(([\w/.]+)\)", text))
