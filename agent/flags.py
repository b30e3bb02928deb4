"""A command's configuration is one frozen dataclass; its flags are generated from the fields.

    @dataclass(frozen=True)
    class Search:
        question: str = argument("what to look for")
        k: int = option("how many pages", default=5, short="-k")

`parse(Search, argv, prog)` gives an instance or raises `UserError`. Unknown flags and wrong values are errors; a flag
exists only where a field does, inherited ones included, and the required ones are listed first. Numbers are finite. Types: str,
int, float, bool, Path, tuple[T, ...], Literal of strings, T | None.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from colsearcher.agent.range import Range
from colsearcher.indexes.errors import UserError

Config = TypeVar("Config")

LOCAL = "--local"  # every command has it


def argument(help: str) -> Any:
    """A positional field; a tuple field takes one or more."""
    return dataclasses.field(metadata={"help": help, "positional": True})


def option(
    help: str,
    *,
    default: Any = dataclasses.MISSING,
    short: str | None = None,
    metavar: str | None = None,
    bare: str | None = None,
    within: Range | None = None,
) -> Any:
    """A flag named after the field (`max_searches` -> `--max-searches`, `continue_` -> `--continue`); required where it has
    no default.

    With `bare` the flag may also stand alone, and that is its value then. A number has to lie `within` a range.
    """
    metadata = {"help": help, "positional": False, "short": short, "metavar": metavar, "bare": bare, "within": within}
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


def parse(config: type[Config], argv: Sequence[str], prog: str) -> Config:
    """Read the command line of one command.

    Raises:
        UserError: an unknown flag, a wrong value, a number out of its range, something missing.
        SystemExit: `--help` was asked for and has been printed.
    """
    parser = _Parser(prog=prog, description=inspect.getdoc(config), formatter_class=_Formatter, allow_abbrev=False)
    hints = get_type_hints(config)
    fields = dataclasses.fields(config)  # type: ignore[arg-type]
    for field in sorted(fields, key=lambda field: field.default is not dataclasses.MISSING):
        _add(parser, field, hints[field.name])
    parser.add_argument(
        LOCAL, action="store_true", help="a connection to any other machine is an error (also COLSEARCHER_LOCAL=1)"
    )
    values = vars(parser.parse_args(list(argv)))
    del values["local"]  # the command line has seen to it before the command was imported
    for field in fields:
        if isinstance(values[field.name], int | float):
            (field.metadata.get("within") or Range()).check(_flag(field), values[field.name])
    return config(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; see `{self.prog} --help`.")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def _add(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any) -> None:
    kind, many, choices = _unpack(hint)
    meta = field.metadata
    required = field.default is dataclasses.MISSING
    keywords: dict[str, Any] = {"help": meta["help"]}
    if meta["positional"]:
        keywords |= {"type": kind, "metavar": field.name.upper()} | ({"nargs": "+"} if many else {})
        parser.add_argument(field.name, **keywords)
        return
    names = [_flag(field)]
    if meta["short"]:
        names.insert(0, meta["short"])
    if kind is bool:
        parser.add_argument(*names, action="store_true", dest=field.name, help=meta["help"])
        return
    if not required and field.default not in (None, ()):
        keywords["help"] += f" (default: {field.default})"
    if choices:
        keywords["choices"] = choices
    else:
        keywords["metavar"] = meta["metavar"] or kind.__name__.upper()
    if meta["bare"] is not None:
        keywords |= {"nargs": "?", "const": meta["bare"]}
    default: Any = None if required else field.default
    if many:
        keywords["action"] = "append"
        default = list(default or ())
    parser.add_argument(*names, dest=field.name, type=kind, required=required, default=default, **keywords)


def _flag(field: dataclasses.Field[Any]) -> str:
    return f"--{field.name.rstrip('_').replace('_', '-')}"


def _unpack(hint: Any) -> tuple[type, bool, tuple[str, ...]]:
    """(element type, many values, the choices) of a field's type."""
    if get_origin(hint) in (Union, types.UnionType):
        return _unpack(next(a for a in get_args(hint) if a is not type(None)))
    if get_origin(hint) is tuple:
        kind, _, choices = _unpack(get_args(hint)[0])
        return kind, True, choices
    if get_origin(hint) is Literal:
        return str, False, get_args(hint)
    if hint not in (str, int, float, bool, Path):
        raise TypeError(f"a configuration field cannot be {hint}")
    return hint, False, ()
