"""The evidence of a training run: what was asked for, where it ran, what it measured, and what it takes to go on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import UserError

_LIBRARIES = ("torch", "transformers", "colpali-engine", "peft", "trl", "colsearcher")


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that is added to line by line; what a kill left of the last one is cut off."""
    *whole, rest = path.read_bytes().split(b"\n")
    if rest:
        path.write_bytes(b"".join(line + b"\n" for line in whole))
    return [line.decode() for line in whole]


class RunFolder:
    """`config.json`, `env.json`, `metrics.jsonl`, `state.pt`, `model/` and `report.md` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model"
        self.report = path / "report.md"
        self.negatives = path / "negatives.json"
        self._config = path / "config.json"
        self._metrics = path / "metrics.jsonl"
        self._state = path / "state.pt"

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any], *, resume: bool) -> None:
        """Make the folder, or with `resume` check that the run in it was asked for in the same way.

        Raises:
            UserError: there is a run already and `resume` is not set, or it has another configuration.
        """
        config = json.loads(json.dumps(config, ensure_ascii=False))  # as it is read back
        if self._config.is_file():
            if not resume:
                raise UserError(f"{self.path} holds a run already; add --resume to go on with it, or take another --out.")
            before = json.loads(self._config.read_text(encoding="utf-8"))
            changed = sorted(key for key in before.keys() | config.keys() if before.get(key) != config.get(key))
            if changed:
                differences = ", ".join(f"{key}: {before.get(key)} then, {config.get(key)} now" for key in changed)
                fix = "resume it with the same options and data"
                raise UserError(f"The run in {self.path} was started differently ({differences}); {fix}.")
            return
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and holds no run; take another --out.")
        self.path.mkdir(parents=True, exist_ok=True)
        machine = {
            "python": platform.python_version(),
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            **{name: version(name) for name in _LIBRARIES},
            **environment,
        }
        _write(self.path / "env.json", json.dumps(machine, indent=1))
        _write(self._config, json.dumps(config, indent=1, ensure_ascii=False))

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a line to the metrics."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """The metrics so far."""
        if not self._metrics.is_file():
            return []
        lines = self._metrics.read_text(encoding="utf-8").split("\n")
        # A line without its end is what a kill left of it.
        return [json.loads(line) for line in lines[:-1]]

    def keep_steps(self, last: int) -> None:
        """Forget the metrics of steps after `last`, which will be done again."""
        rows = [row for row in self.rows() if row.get("step", 0) <= last]
        _write(self._metrics, "".join(json.dumps(row) + "\n" for row in rows))

    def evaluation(self, of: str) -> dict[str, float] | None:
        """The metrics of an evaluation that was done already, "base" or "trained"."""
        return next((row["metrics"] for row in self.rows() if row.get("evaluation") == of), None)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep what it takes to go on; a kill leaves the old state or the new one."""
        import torch

        new = self._state.with_suffix(".new")
        torch.save(dict(state), new)
        new.replace(self._state)

    def load_state(self) -> dict[str, Any] | None:
        """What `save_state` kept, None where the run was killed before."""
        import torch

        return torch.load(self._state, map_location="cpu", weights_only=True) if self._state.is_file() else None


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
