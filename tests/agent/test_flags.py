import dataclasses
import doctest
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from colsearcher.agent import cli, flags, range, terminal
from colsearcher.agent.flags import argument, option, parse
from colsearcher.agent.range import Range
from colsearcher.indexes.errors import UserError


@dataclass(frozen=True)
class Sample:
    """What it is for."""

    places: tuple[Path, ...] = argument("where")
    count: int = option("how many", default=5, short="-k")
    mode: Literal["fast", "slow"] = option("how", default="fast")
    name: str | None = option("who", default=None)
    max_size: float = option("how big")
    json: bool = option("as JSON", default=False)
    tags: tuple[str, ...] = option("which", default=())


def test_doctests():
    for module in (flags, range, terminal):
        assert doctest.testmod(module).failed == 0


def test_fields_become_flags():
    sample = parse(Sample, ["a", "b", "-k", "7", "--mode", "slow", "--max-size", "2.5", "--json"], "x")
    assert sample == Sample((Path("a"), Path("b")), count=7, mode="slow", max_size=2.5, json=True)
    tagged = parse(Sample, ["a", "--max-size", "1", "--tags", "x", "--tags", "y"], "x")
    assert tagged == Sample((Path("a"),), max_size=1.0, tags=("x", "y"))


@dataclass(frozen=True)
class Special(Sample):
    """Has what every sample has, and more."""

    colour: str = option("which colour")


def test_inherited_fields_are_flags_too_and_required_ones_come_first(capsys):
    argv = ["a", "--max-size", "1", "--colour", "red", "-k", "7"]
    assert parse(Special, argv, "x") == Special((Path("a"),), count=7, max_size=1.0, colour="red")
    with pytest.raises(SystemExit):
        parse(Special, ["--help"], "x")
    said = capsys.readouterr().out.split("options:")[1]
    places = [said.index(f"--{name} ") for name in ("max-size", "colour", "count", "json")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--max-size", "1"], "places"),
        (["a"], "--max-size"),
        (["a", "--max-size", "1", "--colour", "red"], "--colour"),
        (["a", "--max-size", "big"], "big"),
        (["a", "--max-size", "1", "--mode", "medium"], "medium"),
        (["a", "--max-size", "1", "--js"], "--js"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(argv, complaint):
    with pytest.raises(UserError) as error:
        parse(Sample, argv, "x")
    assert complaint.lower() in str(error.value).lower() and "\n" not in str(error.value) and "x --help" in str(error.value)


@dataclass(frozen=True)
class Numbers:
    """Numbers."""

    some: int | None = option("some", default=None, within=Range(least=2, most=4))
    share: float = option("share", default=0.5, within=Range(above=0, most=1))
    any: float = option("any", default=0.0)
    max_size: int = option("size", default=1, within=Range(least=1))


@pytest.mark.parametrize("given", ["--some 2", "--some 4", "--share 1", "--any -3.5", f"--max-size {'9' * 400}"])
def test_numbers_within_their_range_are_taken(given):
    parse(Numbers, given.split(), "x")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--some", "1"], "--some is 1; give 2 to 4."),
        (["--some", "5"], "--some is 5; give 2 to 4."),
        (["--share", "0"], "--share is 0.0; give a number above 0, at most 1."),
        (["--share", "nan"], "--share is nan; give a number above 0, at most 1."),
        (["--any", "inf"], "--any is inf; give a finite number."),
        (["--max-size", "0"], "--max-size is 0; give at least 1."),
    ],
)
def test_numbers_out_of_their_range_are_named_with_it(argv, said):
    with pytest.raises(UserError) as error:
        parse(Numbers, argv, "x")
    assert str(error.value) == said


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_number_of_a_command_has_a_range(name):
    module, _, cls = cli.COMMANDS[name].target.partition(":")
    for field in dataclasses.fields(getattr(importlib.import_module(module), cls)):
        if field.type.split(" |")[0] in ("int", "float"):
            assert field.metadata["within"] is not None, field.name
            if field.default is not None and field.default is not dataclasses.MISSING:
                field.metadata["within"].check(field.name, field.default)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_command_of_the_table_exists_and_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli._dispatch([*name.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: colsearcher {name}" in capsys.readouterr().out
