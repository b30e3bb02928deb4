"""Examples to begin with: how a question with known paragraphs or pages could have been searched and answered.

A teacher first searches with the question's own words, then for a gold document that is still missing, by a name that the
question or a page has already told. It thinks in the sentence that says it, and answers with the page's number. Examples whose
searches do not find what the answer needs are dropped, so nothing is learned that the corpus does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from colsearcher.agent.engine import Engine, StopReason
from colsearcher.agent.protocol import ANSWER, BEGIN_QUERY, END_ANSWER, END_QUERY, END_THINK, Protocol
from colsearcher.agent.record import Budgets, Rollout
from colsearcher.agent.retriever import Retriever
from colsearcher.agent.wording import STOPWORDS, terms, tokens
from colsearcher.training.policy.teacher import taught_rollouts
from colsearcher.training.question import Question

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"(«])")
_CLOSED = ("yes", "no")
_LONGEST_THOUGHT = 40  # words of a sentence that is thought
_LONGEST_QUERY = 16  # words


@dataclass(frozen=True)
class Example:
    """A conversation to learn from: `ids` with `mask` 1 where to learn, after `prompt_ids`, where nothing is learned."""

    question: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    mask: tuple[int, ...]
    text: str


class GoldTeacher:
    """Writes the conversation about a question whose gold documents are known.

    Args:
        texts: the words of each page by its address, as a search shows them.
    """

    def __init__(self, question: Question, texts: Mapping[str, str]) -> None:
        self._question = question
        self._texts = texts
        self._gold = sorted(str(place) for place in question.evidence)
        self._shown: dict[str, int] = {}  # address to its number
        self._fresh: list[str] = []
        self._asked: list[str] = []

    @property
    def question(self) -> str:
        return self._question.text

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "hits":
            self._fresh = [str(hit["address"]) for hit in data["hits"]]
            self._shown |= {address: number for number, address in enumerate(self._fresh, data["first"])}

    def turn(self) -> str:
        if not self._asked:
            return self._search("I need to find out about this.", key_words(self._question.text))
        missing = [place for place in self._gold if place not in self._shown]
        thought = " ".join(self._said(place) for place in self._fresh if place in self._gold)
        if missing and len(self._asked) < 3:
            named = [place for place in missing if self._is_named(place)]
            if named:
                return self._search(thought or "That is not enough.", _name(named[0]))
        return self._answer(thought)

    def _search(self, thought: str, query: str) -> str:
        if query in self._asked:
            return ""
        self._asked.append(query)
        return f"{thought}\n{BEGIN_QUERY} {query} {END_QUERY}"

    def _answer(self, thought: str) -> str:
        answer = self._question.answers[0]
        holding = [place for place in self._shown if place in self._gold and _says(self._texts.get(place, ""), answer)]
        if answer.lower() in _CLOSED:
            if any(place not in self._shown for place in self._gold):
                return ""
            cited = self._shown[self._gold[0]]
        elif holding:
            cited = self._shown[holding[-1]]
        else:
            return ""
        return f"{thought or 'Now I know.'}\n{END_THINK}\n{ANSWER} {answer} ({cited}) {END_ANSWER}"

    def _said(self, place: str) -> str:
        """The sentence of a page that has most to do with question and answer, with the page's number."""
        answer = self._question.answers[0]
        wanted = set(terms(self._question.text)) | set(terms(answer))
        title = place.rsplit("#p=", 1)[0] + "."
        sentences = [sentence for sentence in _SENTENCE.split(self._texts.get(place, "")) if sentence != title] or [title]
        best = max(sentences, key=lambda sentence: (_says(sentence, answer), len(wanted & set(terms(sentence)))))
        return f"({self._shown[place]}) {_cut(best.split(), wanted, answer)}"

    def _is_named(self, place: str) -> bool:
        """Whether question or pages that were shown name the document."""
        told = [self._question.text, *(self._texts.get(shown, "") for shown in self._shown)]
        return any(_says(text, _name(place)) for text in told)


def examples(
    questions: Iterable[Question],
    texts: Mapping[str, str],
    engine: Engine,
    retriever: Retriever,
    protocol: Protocol,
    budgets: Budgets,
    on_progress: Callable[[int, int, int], None] = lambda done, all, kept: None,
) -> Iterator[Example]:
    """Conversations about questions with gold pages, those that end in the gold answer in a format without a fault.

    Args:
        on_progress: called after each conversation with how many of how many are done, and how many of them were kept.
    """
    asked = [question for question in questions if question.evidence and question.answerable]
    teachers = [GoldTeacher(question, texts) for question in asked]
    kept = 0
    for done, (_, rollout) in enumerate(taught_rollouts(teachers, engine, retriever, protocol, budgets), 1):
        good = rollout.stop is StopReason.ANSWERED and not rollout.parsed.problems
        kept += good
        on_progress(done, len(asked), kept)
        if good:
            yield example_of(rollout)


def example_of(rollout: Rollout) -> Example:
    return Example(rollout.question, rollout.prompt_ids, rollout.ids, rollout.mask, rollout.text)


def key_words(question: str) -> str:
    """The question's words that carry meaning, in its own spelling.

    >>> key_words("Who directed the film that Ada Finch starred in?")
    'directed film Ada Finch starred'
    """
    words = [word.strip(".,;:!?\"'()«»") for word in question.split()]
    kept = [word for word in words if word and any(token not in STOPWORDS for token in tokens(word))]
    return " ".join(kept[:_LONGEST_QUERY]) or question


def _cut(words: list[str], wanted: set[str], answer: str) -> str:
    """The words, or of many those with most of what is wanted, and with the answer where they hold it.

    >>> _cut(["row"] * 50 + ["Lake", "12.8"] + ["row"] * 50, {"lake"}, "12.8")
    '… Lake 12.8 row …'
    """
    if len(words) <= _LONGEST_THOUGHT:
        return " ".join(words)
    marks = [wanted & set(terms(word)) for word in words]

    def worth(start: int) -> tuple[bool, int, int]:
        window = marks[start : start + _LONGEST_THOUGHT]
        return (
            _says(" ".join(words[start : start + _LONGEST_THOUGHT]), answer),
            len(set().union(*window)),
            sum(map(len, window)),
        )

    start = max(range(len(words) - _LONGEST_THOUGHT + 1), key=worth)
    matches = [place for place in range(start, start + _LONGEST_THOUGHT) if marks[place]]
    if matches:  # what comes before the first and after the last is not worth a thought
        start, end = matches[0], matches[-1] + 3
    else:
        end = start + _LONGEST_THOUGHT
    return " ".join([*(["…"] if start else []), *words[start:end], *(["…"] if end < len(words) else [])])


def _name(place: str) -> str:
    """The name of a document: a title, without what tells it from others in brackets.

    >>> _name("Inna (singer)#p=1")
    'Inna'
    """
    title = place.rsplit("#p=", 1)[0]
    return re.sub(r"\s*\([^()]*\)\s*$", "", title) or title


def _says(text: str, answer: str) -> bool:
    there, wanted = tokens(text), tokens(answer)
    n = len(wanted)
    return n > 0 and any(there[i : i + n] == wanted for i in range(len(there) - n + 1))
