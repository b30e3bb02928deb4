"""The record of one ask: one JSON event per line, written as it happens, never changed afterwards.

A run that is killed leaves every event up to that moment. The same file serves the command line, replay, evaluation and
training. Kinds, in the order in which they come:

| kind | data |
|---|---|
| `ask` | question, models (role -> name and revision), settings |
| `prompt` | ids, text |
| `written` | source (`scaffold` or `documents`), ids, text, pictures (address, at, tokens): what the environment put in |
| `token` | id, logprob, entropy (in nats, where the engine tells it), text (may be empty in the middle of a character) |
| `turn` | stop, matched, tokens: the policy stopped writing |
| `query` | query, as it goes to the retriever |
| `hits` | query, first (number of the first page), hits (address, score), notice |
| `look` | asked, address, notice: the policy looks at a part of a page |
| `stop` | stop, error, timing_s |
| `answer` | the `Answer` as JSON |

Left out: pages and images (a trace names them by address) and what is done with a trace.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from colsearcher.indexes.errors import FileProblem


@dataclass(frozen=True)
class Event:
    """`at_s` counts from the opening of the trace."""

    kind: str
    at_s: float
    data: Mapping[str, object]


class Trace:
    """An open trace file. Its `write` is an `on_event` for `run_rollout`.

    Raises:
        FileProblem: the file exists already (a trace is never overwritten) or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = path.open("x", encoding="utf-8")
        except FileExistsError:
            raise FileProblem(f"The trace {path} exists already. Choose another file; traces are never overwritten.") from None
        except OSError as problem:
            raise FileProblem(f"The trace {path} cannot be written ({problem.strerror}). Choose another folder.") from problem

    def write(self, kind: str, data: Mapping[str, object]) -> None:
        """Append one event and hand it to the operating system."""
        event = {"kind": kind, "at_s": round(time.monotonic() - self._begun, 4), **data}
        self._file.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, where: TracebackType | None) -> None:
        self.close()


def read_trace(path: Path) -> list[Event]:
    """Every event of a trace. A last line without its end (the writer was killed) is left out.

    Raises:
        FileProblem: there is no such file, or a finished line is not an event.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as problem:
        raise FileProblem(f"The trace {path} cannot be read ({problem}). Check the path.") from problem
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
            events.append(Event(data.pop("kind"), data.pop("at_s"), data))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FileProblem(f"Line {number} of {path} is not a trace event. Is it a ColSearcher trace?") from None
    return events
