"""The checkpoints that transformers' trainer leaves in a folder."""

from __future__ import annotations

from pathlib import Path


def last_checkpoint(folder: Path, at_most: int | None = None) -> Path | None:
    """The newest whole checkpoint, or the newest of a step that is not after `at_most`."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    kept = [path for path in whole if at_most is None or step_of(path) <= at_most]
    return max(kept, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])
