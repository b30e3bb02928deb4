"""What a person or a program sees: results on stdout, everything else on stderr, progress that tells the truth."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self


def show(text: str = "") -> None:
    """A line of the result, on stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show_json(document: Mapping[str, object]) -> None:
    """The one JSON document of `--json`, on stdout."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """A line beside the result, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """
    >>> duration(4.2), duration(75), duration(4000)
    ('4 s', '1 min 15 s', '1 h 06 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(count: float) -> str:
    """
    >>> size(900), size(1_500_000)
    ('900 B', '1.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


class ProgressLine:
    """Progress over pages of unequal cost, on stderr: share done, pages per second, time left.

    Time left is the work left over the speed so far, in units of work (`units` per page), not of pages: a page that needs
    OCR takes some fifteen times as long as one that does not, and a bar that counts pages would lie. On a terminal the
    line is redrawn; elsewhere a new line is written every ten seconds.
    """

    def __init__(self, verb: str, pages: int, units: float, *, things: str = "pages") -> None:
        self._verb = verb
        self._things = things
        self._pages = pages
        self._units = units
        self._live = sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started + (0 if self._live else 10)
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live and self._width:
            sys.stderr.write("\n")

    def update(self, pages: int, units: float, note: str = "") -> None:
        """`pages` and `units` done so far, of those named at the start."""
        now = time.monotonic()
        last = pages >= self._pages
        if now < self._next and not (last and self._live):
            return
        self._next = now + (0.2 if self._live else 10)
        elapsed = now - self._started
        share = min(1.0, units / self._units) if self._units else 1.0
        left = "" if last else "  estimating time left"
        if not last and units and elapsed > 2:
            left = f"  about {duration(elapsed / units * (self._units - units))} left"
        rate = pages / elapsed if elapsed > 0 else 0.0
        bar = f"[{'█' * round(share * 20):░<20}] " if self._live else ""
        line = f"{self._verb} {bar}{pages:,}/{self._pages:,} {self._things}  {rate:.1f} {self._things}/s{left}  {note}"
        if self._live:
            line = line[:118]
            sys.stderr.write(f"\r{line:<{self._width}}")
            self._width = len(line)
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
