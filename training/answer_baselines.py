"""What a search agent has to beat: the same policy without documents, with one search, and with the gold pages themselves.

| baseline | what it is shown |
|---|---|
| closed-book | nothing: what the policy knows by heart |
| one-shot | the best pages for the question's own words, found in one search |
| oracle | the gold pages: as if every search found all that is needed |

One prompt, one answer; each comes as a `Rollout`, so that the code that scores the agent scores it too. Pages are cut to the
agent's budget for one search. Left out: pictures; a policy that sees reads the words of the pages here.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from colsearcher.agent.engine import Engine, EngineProblem, Generation, Sampling, StopReason, Turn
from colsearcher.agent.parser import Parsed, Problem, Segment
from colsearcher.agent.protocol import escape, format_documents
from colsearcher.agent.record import Budgets, Rollout, Search
from colsearcher.agent.retriever import Passage
from colsearcher.agent.source import Place, Source
from colsearcher.indexes.errors import ColSearcherError, UserError
from colsearcher.training.question import Question

Baseline: TypeAlias = Literal["closed-book", "one-shot", "oracle"]

FROM_MEMORY = """\
Answer with a few words and nothing else: no sentence, no explanation. If you do not know the answer, write: I don't know

Question: {question}"""

FROM_PAGES = """\
{documents}

Answer from these pages, with a few words and nothing else: no sentence, no explanation. If they do not hold the answer, \
write: I don't know

Question: {question}"""

TOKENS = 48
"""At most so many for an answer; the first line with words in it counts."""


class _NoPages:
    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        return [[] for _ in queries]


NOTHING = Source(Place("passages", "nothing"), _NoPages(), {}, Path())
"""What a closed book is asked with."""


@dataclass
class _Asked:
    """A question on its way: what it is shown, and the turn that answers it, or why there is none."""

    question: Question
    searches: tuple[Search, ...]
    prompt_ids: tuple[int, ...]
    started: float
    searching_s: float
    turn: Turn | None = None
    stop: StopReason | None = None
    error: str | None = None


def baseline_rollouts(
    baseline: Baseline,
    questions: Sequence[Question],
    engine: Engine,
    source: Source,
    budgets: Budgets,
    sampling: Sampling,
    *,
    in_flight: int = 1,
) -> Iterator[tuple[int, Rollout]]:
    """Ask each question once, `in_flight` side by side; yields number and rollout in the order in which they end.

    A search of `one-shot` is one of the rollout's, with the question as its query. The pages of `oracle` are there under an
    empty query, since nobody asked for them.

    Raises:
        UserError: there are no gold pages to show, see `gold_passages`.
    """
    sampling = replace(sampling, max_tokens=min(sampling.max_tokens, TOKENS))
    gold = gold_passages(questions, source) if baseline == "oracle" else []
    waiting = iter(enumerate(questions))
    going: dict[int, _Asked] = {}
    try:
        while True:
            begun = list(itertools.islice(waiting, in_flight - len(going)))
            started = time.monotonic()
            found: list[tuple[Search, ...]] | ColSearcherError = [() for _ in begun]
            if baseline == "oracle":
                found = [(Search("", gold[number], 1),) if gold[number] else () for number, _ in begun]
            elif baseline == "one-shot" and begun:
                found = _search([question.text for _, question in begun], source, budgets.documents)
            spent = time.monotonic() - started
            for place, (number, question) in enumerate(begun):
                if isinstance(found, ColSearcherError):
                    failed = StopReason.RETRIEVER_FAILED
                    going[number] = _Asked(question, (), (), started, spent, stop=failed, error=str(found))
                else:
                    going[number] = _begin(question, found[place], engine, budgets, sampling, started, spent)
            if not going:
                return
            turns = [asked.turn for asked in going.values() if asked.turn is not None]
            if turns:
                engine.work(turns)
            for number in [number for number, asked in going.items() if asked.turn is None or asked.turn.ended]:
                yield number, _ended(going.pop(number), engine)
    finally:
        for asked in going.values():
            if asked.turn is not None:
                asked.turn.session.close()


def gold_passages(questions: Sequence[Question], source: Source) -> list[tuple[Passage, ...]]:
    """The gold pages of each question; none for a question that has no answer.

    Raises:
        UserError: the source has no words of its own, or a question's gold pages are not known or not in it.
    """
    if source.searcher is None:
        raise UserError("The oracle shows the gold pages' words; name an index or a file of passages, not a search service.")
    index = source.searcher.index
    known = {(record.document, page) for record in index.documents() for page in range(1, record.pages + 1)}
    found = []
    for question in questions:
        places = sorted(question.evidence, key=lambda place: (place.document, place.page))
        if question.answerable and not (places and all((place.document, place.page) in known for place in places)):
            raise UserError(
                f"The gold pages of question «{question.id}» are not in {source.place}; leave out of --qa what has none there."
            )
        found.append(tuple(Passage(place, index.page(place.document, place.page).text, 1.0) for place in places))
    return found


def prompt_for(question: str, passages: Sequence[Passage], budgets: Budgets, engine: Engine) -> str:
    """The whole message to the policy."""
    asked = escape(" ".join(question.split()))
    if not passages:
        return FROM_MEMORY.format(question=asked)
    documents = format_documents(passages, question, budgets.document_tokens, lambda text: len(engine.encode(text)))
    return FROM_PAGES.format(documents=documents, question=asked)


def _search(queries: Sequence[str], source: Source, count: int) -> list[tuple[Search, ...]] | ColSearcherError:
    """One search for each, in one batch."""
    try:
        ranked = source.retriever.search(queries, count)
    except ColSearcherError as problem:
        return problem
    return [(Search(query, tuple(passages), 1),) for query, passages in zip(queries, ranked, strict=True)]


def _begin(
    question: Question,
    searches: tuple[Search, ...],
    engine: Engine,
    budgets: Budgets,
    sampling: Sampling,
    started: float,
    searching_s: float,
) -> _Asked:
    passages = [passage for search in searches for passage in search.passages]
    message = prompt_for(question.text, passages, budgets, engine)
    asked = _Asked(question, searches, tuple(engine.encode_chat([{"role": "user", "content": message}])), started, searching_s)
    try:
        asked.turn = Turn(engine.start(asked.prompt_ids), sampling)
    except EngineProblem as problem:
        asked.stop, asked.error = StopReason.ENGINE_FAILED, str(problem)
    return asked


def _ended(asked: _Asked, engine: Engine) -> Rollout:
    """What was written, as the rollout that it would be if the environment had written the tags."""
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    stop, error, text = asked.stop, asked.error, ""
    if asked.turn is not None:
        asked.turn.session.close()
        ids, logprobs = tuple(asked.turn.ids), tuple(asked.turn.logprobs)
        if asked.turn.failure is not None:
            stop, error = StopReason.ENGINE_FAILED, str(asked.turn.failure)
        else:
            text, stop = _written(asked.turn.result, engine)
    assert stop is not None
    answer = next((line.strip() for line in text.splitlines() if line.strip()), None)
    problems = () if answer else (Problem.ANSWER_MISSING,)
    total = time.monotonic() - asked.started
    return Rollout(
        asked.question.text,
        asked.prompt_ids,
        ids,
        (1,) * len(ids),
        logprobs,
        (Segment(text, "policy"),),
        asked.searches,
        stop,
        Parsed(tuple(search.query for search in asked.searches if search.query), (), answer, problems, scaffolded=True),
        error=error,
        timing_s={"total": round(total, 4), "search": round(asked.searching_s, 4)},
    )


def _written(turn: Generation, engine: Engine) -> tuple[str, StopReason]:
    """The text without the token that ended the message, and how the rollout ends."""
    if turn.stop is StopReason.EOS:
        text = engine.decode(turn.ids[:-1])
        return text, StopReason.ANSWERED if text.strip() else StopReason.EOS
    return engine.decode(turn.ids), turn.stop
