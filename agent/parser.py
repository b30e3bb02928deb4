"""The one parser of a transcript. It serves rollout, reward and evaluation alike, so no two can disagree on what was said.

It reads segments, not text: a tag inside a document never counts, and no tag can be pieced together from two sources.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from colsearcher.agent.protocol import (
    ANSWER,
    BEGIN_DOCUMENTS,
    BEGIN_QUERY,
    END_ANSWER,
    END_DOCUMENTS,
    END_LOOK,
    END_QUERY,
    END_THINK,
    LOOK,
    TAGS,
    THINK,
)

_TAG = re.compile("|".join(map(re.escape, TAGS)))

Source = Literal["policy", "scaffold", "documents"]
_Area = Literal["start", "think", "query", "look", "between", "answer", "end"]


@dataclass(frozen=True)
class Segment:
    """A stretch of the transcript after the prompt.

    `policy` was sampled; `scaffold` are tags and phrases that the environment wrote in the policy's stead; `documents` is
    a block of documents or a notice, its two tags included. Tags count in the first two, never in the third.
    """

    text: str
    source: Source


class Problem(StrEnum):
    """What can be wrong with a transcript."""

    THINK_TWICE = "think opened twice"
    THINK_NOT_OPEN = "think closed without being open"
    THINK_NOT_CLOSED = "think not closed"
    QUERY_OUTSIDE_THINK = "query outside think"
    QUERY_NESTED = "query inside a query or look"
    QUERY_NOT_OPEN = "query closed without being open"
    QUERY_NOT_CLOSED = "query not closed"
    QUERY_EMPTY = "empty query"
    LOOK_OUTSIDE_THINK = "look outside think"
    LOOK_NESTED = "look inside a query or look"
    LOOK_NOT_OPEN = "look closed without being open"
    LOOK_NOT_CLOSED = "look not closed"
    LOOK_EMPTY = "empty look"
    DOCUMENTS_FORGED = "documents written by the policy"
    ANSWER_EARLY = "answer inside think"
    ANSWER_NESTED = "tag inside the answer"
    ANSWER_NOT_OPEN = "answer closed without being open"
    ANSWER_NOT_CLOSED = "answer not closed"
    ANSWER_EMPTY = "empty answer"
    ANSWER_TWICE = "two answers"
    ANSWER_MISSING = "no answer"
    STRAY_TEXT = "text outside the tags"


@dataclass(frozen=True)
class Parsed:
    """What a transcript says.

    Attributes:
        queries: every closed query with words in it, in order.
        looks: what every closed look names, in order.
        answer: the answer, if there is exactly one, closed, with words and without tags in it.
        problems: each kind once, in order of appearance. Empty means that the format was kept.
        scaffolded: the environment wrote one of the tags (besides the `<think>` that every prompt ends with).
    """

    queries: tuple[str, ...]
    looks: tuple[str, ...]
    answer: str | None
    problems: tuple[Problem, ...]
    scaffolded: bool


def parse(segments: Sequence[Segment]) -> Parsed:
    """Read a transcript (without its prompt) strictly. Never raises: what is wrong is in `problems`."""
    return _Reader().read(segments)


@dataclass(frozen=True)
class _Action:
    """What the policy may do in the middle of its thoughts, and what can be wrong with it."""

    area: _Area
    outside_think: Problem
    nested: Problem
    not_open: Problem
    not_closed: Problem
    empty: Problem


_QUERY = _Action(
    "query",
    Problem.QUERY_OUTSIDE_THINK,
    Problem.QUERY_NESTED,
    Problem.QUERY_NOT_OPEN,
    Problem.QUERY_NOT_CLOSED,
    Problem.QUERY_EMPTY,
)
_LOOK = _Action(
    "look",
    Problem.LOOK_OUTSIDE_THINK,
    Problem.LOOK_NESTED,
    Problem.LOOK_NOT_OPEN,
    Problem.LOOK_NOT_CLOSED,
    Problem.LOOK_EMPTY,
)


class _Reader:
    def __init__(self) -> None:
        self.area: _Area = "start"
        self.action: _Action | None = None  # the one that is open
        self.after_action: _Area = "think"
        self.text = ""  # of the action or answer that is open
        self.done: dict[_Area, list[str]] = {"query": [], "look": []}
        self.answers: list[str] = []
        self.problems: dict[Problem, None] = {}
        self.scaffolded = False

    def read(self, segments: Sequence[Segment]) -> Parsed:
        for index, (text, source) in enumerate(_merged(segments)):
            if source == "documents":
                continue
            place = 0
            for match in _TAG.finditer(text):
                self._plain(text[place : match.start()])
                self._tag(match[0])
                self.scaffolded |= source == "scaffold" and not (match[0] == THINK and index == 0)
                place = match.end()
            self._plain(text[place:])
        self._finish()
        single = self.answers[0] if len(self.answers) == 1 and Problem.ANSWER_NESTED not in self.problems else ""
        return Parsed(
            tuple(self.done["query"]), tuple(self.done["look"]), single or None, tuple(self.problems), self.scaffolded
        )

    def _problem(self, problem: Problem) -> None:
        self.problems.setdefault(problem)

    def _plain(self, text: str) -> None:
        if self.area in ("query", "look", "answer"):
            self.text += text
        elif self.area != "think" and any(character.isalnum() for character in text):
            self._problem(Problem.STRAY_TEXT)

    def _tag(self, tag: str) -> None:
        if tag in (BEGIN_DOCUMENTS, END_DOCUMENTS):
            self._problem(Problem.DOCUMENTS_FORGED)
        elif self.area == "answer" and tag != END_ANSWER:
            self._problem(Problem.ANSWER_NESTED)
        elif tag == THINK:
            self._close_open_action()
            if self.area == "start":
                self.area = "think"
            else:
                self._problem(Problem.THINK_TWICE)
        elif tag == END_THINK:
            self._close_open_action()
            if self.area == "think":
                self.area = "between"
            else:
                self._problem(Problem.THINK_NOT_OPEN)
        elif tag in (BEGIN_QUERY, LOOK):
            self._begin(_QUERY if tag == BEGIN_QUERY else _LOOK)
        elif tag in (END_QUERY, END_LOOK):
            self._end(_QUERY if tag == END_QUERY else _LOOK)
        elif tag == ANSWER:
            self._begin_answer()
        else:
            self._end_answer()

    def _begin(self, action: _Action) -> None:
        if self.action is not None:
            self._problem(action.nested)
        else:
            if self.area != "think":
                self._problem(action.outside_think)
            self.after_action = self.area
        self.action, self.area, self.text = action, action.area, ""

    def _end(self, action: _Action) -> None:
        if self.action is not action:
            self._problem(action.not_open)
            return
        text = " ".join(self.text.split())
        if text:
            self.done[action.area].append(text)
        else:
            self._problem(action.empty)
        self.action, self.area = None, self.after_action

    def _close_open_action(self) -> None:
        if self.action is not None:
            self._problem(self.action.not_closed)
            self.action, self.area = None, self.after_action

    def _begin_answer(self) -> None:
        self._close_open_action()
        if self.area in ("start", "think"):
            self._problem(Problem.ANSWER_EARLY)
        elif self.area == "end":
            self._problem(Problem.ANSWER_TWICE)
        self.area, self.text = "answer", ""

    def _end_answer(self) -> None:
        if self.area != "answer":
            self._problem(Problem.ANSWER_NOT_OPEN)
            return
        answer = " ".join(self.text.split())
        if not answer:
            self._problem(Problem.ANSWER_EMPTY)
        self.answers.append(answer)
        self.area = "end"

    def _finish(self) -> None:
        self._close_open_action()
        if self.area == "think":
            self._problem(Problem.THINK_NOT_CLOSED)
        if self.area == "answer":
            self._problem(Problem.ANSWER_NOT_CLOSED)
        elif not self.answers:
            self._problem(Problem.ANSWER_MISSING)


def _merged(segments: Sequence[Segment]) -> list[tuple[str, Source]]:
    """Neighbours of one source joined: a tag may lie across two turns of the policy, never across two sources."""
    joined: list[tuple[str, Source]] = []
    for segment in segments:
        if joined and joined[-1][1] == segment.source:
            joined[-1] = (joined[-1][0] + segment.text, segment.source)
        else:
            joined.append((segment.text, segment.source))
    return joined
