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
    END_QUERY,
    END_THINK,
    TAGS,
    THINK,
)

_TAG = re.compile("|".join(map(re.escape, TAGS)))

Source = Literal["policy", "scaffold", "documents"]
_Area = Literal["start", "think", "query", "between", "answer", "end"]


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
    QUERY_NESTED = "query inside a query"
    QUERY_NOT_OPEN = "query closed without being open"
    QUERY_NOT_CLOSED = "query not closed"
    QUERY_EMPTY = "empty query"
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
        answer: the answer, if there is exactly one, closed, with words and without tags in it.
        problems: each kind once, in order of appearance. Empty means that the format was kept.
        scaffolded: the environment wrote one of the tags (besides the `<think>` that every prompt ends with).
    """

    queries: tuple[str, ...]
    answer: str | None
    problems: tuple[Problem, ...]
    scaffolded: bool


def parse(segments: Sequence[Segment]) -> Parsed:
    """Read a transcript (without its prompt) strictly. Never raises: what is wrong is in `problems`."""
    return _Reader().read(segments)


class _Reader:
    def __init__(self) -> None:
        self.area: _Area = "start"
        self.after_query: _Area = "think"
        self.text = ""  # of the query or answer that is open
        self.nested = False
        self.queries: list[str] = []
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
        return Parsed(tuple(self.queries), single or None, tuple(self.problems), self.scaffolded)

    def _problem(self, problem: Problem) -> None:
        self.problems.setdefault(problem)

    def _plain(self, text: str) -> None:
        if self.area in ("query", "answer"):
            self.text += text
        elif self.area != "think" and any(character.isalnum() for character in text):
            self._problem(Problem.STRAY_TEXT)

    def _tag(self, tag: str) -> None:
        if tag in (BEGIN_DOCUMENTS, END_DOCUMENTS):
            self._problem(Problem.DOCUMENTS_FORGED)
        elif self.area == "answer" and tag != END_ANSWER:
            self._problem(Problem.ANSWER_NESTED)
        elif tag == THINK:
            self._close_open_query()
            if self.area == "start":
                self.area = "think"
            else:
                self._problem(Problem.THINK_TWICE)
        elif tag == END_THINK:
            self._close_open_query()
            if self.area == "think":
                self.area = "between"
            else:
                self._problem(Problem.THINK_NOT_OPEN)
        elif tag == BEGIN_QUERY:
            self._begin_query()
        elif tag == END_QUERY:
            self._end_query()
        elif tag == ANSWER:
            self._begin_answer()
        else:
            self._end_answer()

    def _begin_query(self) -> None:
        if self.area == "query":
            self._problem(Problem.QUERY_NESTED)
        else:
            if self.area != "think":
                self._problem(Problem.QUERY_OUTSIDE_THINK)
            self.after_query, self.area = self.area, "query"
        self.text = ""

    def _end_query(self) -> None:
        if self.area != "query":
            self._problem(Problem.QUERY_NOT_OPEN)
            return
        query = " ".join(self.text.split())
        if query:
            self.queries.append(query)
        else:
            self._problem(Problem.QUERY_EMPTY)
        self.area = self.after_query

    def _close_open_query(self) -> None:
        if self.area == "query":
            self._problem(Problem.QUERY_NOT_CLOSED)
            self.area = self.after_query

    def _begin_answer(self) -> None:
        self._close_open_query()
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
        self._close_open_query()
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
