"""An ask as a person follows it: what the policy writes as it writes it, each search with its pages, the checked answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from colsearcher.agent.ask import Asked

_INDENT = " " * 10


class Transcript:
    """Prints events as they come; its `event` is an `on_event`. Colours only on a terminal."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._colour = self._out.isatty()
        self._searches = 0
        self._written = ""

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "ask":
            self._line(f"{'question':<10}{data['question']}", "1")
        elif kind == "token" and data["text"]:
            if not self._written:
                self._put(f"{'policy':<10}", "2")
            # White space waits for what follows it, so that a turn does not end in empty lines.
            fresh = (self._written + data["text"])[len(self._written.rstrip()) :]
            if fresh.strip():
                self._put(fresh.rstrip().replace("\n", f"\n{_INDENT}"), "36")
            self._written += data["text"]
        elif kind == "turn":
            self._put("\n")
            self._written = ""
        elif kind == "hits":
            self._searches += 1
            self._line(f"{f'search {self._searches}':<10}«{data['query']}»", "2")
            numbered = enumerate(data["hits"], data["first"])
            for number, hit in sorted(numbered, key=lambda pair: -pair[1]["score"]):
                self._line(f"{_INDENT}({number}) {hit['score']:.3f}  {hit['address']}", "2")
            if data["notice"]:
                self._line(f"{_INDENT}{data['notice']}", "2")

        elif kind == "look":
            self._line(f"{'look':<10}{data['notice'] or data['address']}", "2")

    def result(self, asked: Asked) -> None:
        for line in answer_lines(asked):
            self._line(line, "1" if line.startswith("answer") else "0")

    def _line(self, text: str, style: str) -> None:
        self._put(f"{text}\n", style)

    def _put(self, text: str, style: str = "0") -> None:
        self._out.write(f"\x1b[{style}m{text}\x1b[0m" if self._colour else text)
        self._out.flush()


def answer_lines(asked: Asked) -> Sequence[str]:
    """The answer with its pages, or the honest lack of one with the nearest pages."""
    return lines_of(asked.answer.as_json())


def lines_of(answer: Mapping[str, Any]) -> Sequence[str]:
    """The same of the `answer` event of a trace."""
    if not answer["abstained"]:
        return [f"{'answer':<10}{answer['answer']}", f"{'cited':<10}{', '.join(answer['citations'])}"]
    lines = [f"{'answer':<10}none: {answer['reason']}"]
    if answer["written"]:
        why = "not supported" if answer["unsupported"] else "held back"
        lines.append(f"{_INDENT}the policy wrote «{' '.join(answer['written'].split())}», which is {why}")
    if answer["nearest"]:
        lines.append(f"{'nearest':<10}{', '.join(answer['nearest'][:3])}")
    return lines
