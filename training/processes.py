"""Several processes that train one policy together, as `accelerate launch` starts them: who writes, and who waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

# The first process evaluates while the others wait.
_PATIENCE = timedelta(hours=24)


def count() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this one writes; the only one does."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Until every process is here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState(timeout=_PATIENCE).wait_for_everyone()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does the block, then the others: they find what it has made."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()
