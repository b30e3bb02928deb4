"""The rooms and which way imports go."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BELOW = {"indexes": set(), "retrieval": {"indexes"}, "agent": {"indexes", "retrieval"}}
BELOW["training"] = {"indexes", "retrieval", "agent"}


def modules(room):
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", BELOW)
def test_imports_go_one_way(room):
    wrong = []
    for path in modules(room):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                match = re.match(r"colsearcher\.(\w+)", name)
                if match and match[1] not in BELOW[room] | {room}:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


@pytest.mark.parametrize("room", BELOW)
def test_no_file_is_two_nouns(room):
    assert [str(path) for path in modules(room) if len(path.read_text().splitlines()) > 500] == []


def test_every_package_is_in_the_distribution():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        "colsearcher." + ".".join(path.parent.relative_to(ROOT).parts)
        for room in BELOW
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert listed == found


def test_locks_pin_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    asked = project["dependencies"] + project["optional-dependencies"]["cpu"] + project["optional-dependencies"]["dev"]
    missing = [name for name in (re.match(r"[\w.-]+", spec)[0].lower() for spec in asked) if f"\n{name}==" not in lock]
    assert missing == []
    assert "://" not in re.sub(r"#.*", "", lock)
