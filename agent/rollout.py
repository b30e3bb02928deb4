"""The loop that lets the policy write, searches when it asks, and keeps the exact record: for one question or for many at once.

Each conversation is told by a generator that yields what it waits for, a turn of the policy or a search; `run_rollouts` gives
the turns of all conversations to the engine together and their searches to the retriever together, so each pauses on its own.
What the policy wrote and what the environment wrote are told apart when they are written, never by looking for tags in the
result: `mask` is 1 exactly on tokens that the engine sampled. A rollout that goes wrong is data with a stop reason, not a
crash. Left out: images, rewards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from colsearcher.agent.engine import Engine, EngineProblem, Generation, Sampling, Session, StopReason, Turn
from colsearcher.agent.parser import Parsed, Problem, Segment, Source, parse
from colsearcher.agent.protocol import (
    ANSWER,
    BEGIN_DOCUMENTS,
    BEGIN_QUERY,
    END_ANSWER,
    END_QUERY,
    END_THINK,
    Protocol,
    escape,
    format_documents,
    format_notice,
)
from colsearcher.agent.retriever import Passage, Retriever
from colsearcher.agent.wording import tokens
from colsearcher.indexes.errors import ColSearcherError

# What the environment says instead of documents.
NO_SEARCH_LEFT = "No searches are left. Give the answer now."
ALREADY_ASKED = "This query was asked before; its documents are above. Ask something else or answer."
NO_QUERY = "The query has no words."
NOTHING_FOUND = "No further page was found."

TAG_TOKENS = 64  # room kept for the tags around documents and answer, whatever the tokenizer makes of them

OnEvent = Callable[[str, Mapping[str, object]], None]  # kind, JSON values; the kinds are listed in `trace`


@dataclass(frozen=True)
class Budgets:
    """What one rollout may spend.

    Attributes:
        total_tokens: of everything after the prompt, documents included.
        turn_tokens: of one turn of the policy (`Sampling.max_tokens` applies too).
        searches: at most so many queries reach the retriever.
        documents: pages per search.
        document_tokens: of one search's pages together, their tags not counted.
        seconds: wall time; asked before each token and each search.
    """

    total_tokens: int = 4096
    turn_tokens: int = 512
    searches: int = 3
    documents: int = 3
    document_tokens: int = 480
    seconds: float = 120.0


@dataclass(frozen=True)
class Search:
    """One query of the policy and what came back, in the order shown. `first` is the number of the first passage."""

    query: str
    passages: tuple[Passage, ...]
    first: int
    notice: str | None = None


@dataclass(frozen=True)
class Rollout:
    """The exact record of one conversation.

    `ids`, `mask` and `logprobs` have one entry per token after the prompt. `mask` is 1 where the policy wrote; `logprobs`
    is 0.0 where it did not. `segments` is the same stretch as text, for eyes and for `parse`.
    """

    question: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    segments: tuple[Segment, ...]
    searches: tuple[Search, ...]
    stop: StopReason
    parsed: Parsed
    error: str | None = None
    timing_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


def ignore(kind: str, data: Mapping[str, object]) -> None:
    """The `on_event` of a caller who does not want to know."""


@dataclass(frozen=True)
class Task:
    """One rollout to do.

    Attributes:
        sampling: its own, so that rollouts of one question differ by their seeds.
        on_event: called as things happen, in order; see `trace` for the kinds.
    """

    question: str
    sampling: Sampling = field(default_factory=Sampling)
    on_event: OnEvent = ignore


def run_rollout(
    question: str,
    engine: Engine,
    retriever: Retriever,
    protocol: Protocol,
    sampling: Sampling | None = None,
    budgets: Budgets | None = None,
    on_event: OnEvent = ignore,
    cancelled: Callable[[], bool] = lambda: False,
) -> Rollout:
    """Let the policy search and answer one question; see `run_rollouts`."""
    task = Task(question, sampling or Sampling(), on_event)
    ((_, rollout),) = run_rollouts([task], engine, retriever, protocol, budgets, cancelled=cancelled)
    return rollout


def run_rollouts(
    tasks: Iterable[Task],
    engine: Engine,
    retriever: Retriever,
    protocol: Protocol,
    budgets: Budgets | None = None,
    *,
    in_flight: int = 64,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Rollout]]:
    """Let the policy search and answer many questions, side by side.

    What a rollout holds does not depend on what else is in flight, up to the rounding of the engine's arithmetic.

    Args:
        tasks: read as there is room for another.
        in_flight: how many conversations are open at once.
        cancelled: asked before each token; True ends every rollout with `StopReason.CANCELLED`.

    Yields:
        (number of the task, its rollout), in the order in which they end.
    """
    budgets = budgets or Budgets()
    waiting = enumerate(tasks)
    turns: dict[int, Turn] = {}
    lookups: dict[int, _Lookup] = {}
    open_runs: dict[int, _Conversation] = {}
    ended: list[tuple[int, Rollout]] = []

    def go_on(number: int, answer: object = None) -> None:
        """Let a conversation go on until it waits again or ends."""
        conversation = open_runs[number]
        try:
            wanted = conversation.throw(answer) if isinstance(answer, Exception) else conversation.send(answer)
        except StopIteration as stopped:
            del open_runs[number]
            ended.append((number, stopped.value))
        else:
            if isinstance(wanted, Turn):
                turns[number] = wanted
            else:
                lookups[number] = wanted

    try:
        while True:
            while len(open_runs) < in_flight and (begun := next(waiting, None)) is not None:
                number, task = begun
                open_runs[number] = _Run(task, engine, protocol, budgets, cancelled).go()
                go_on(number)
            while lookups:
                asked, lookups = lookups, {}
                for number, found in _look_up(retriever, asked).items():
                    go_on(number, found)
            yield from ended
            ended.clear()
            if turns:
                engine.work(list(turns.values()))
                for number in [number for number, turn in turns.items() if turn.ended]:
                    del turns[number]
                    go_on(number)
            elif not open_runs:
                return
    finally:
        for conversation in open_runs.values():
            conversation.close()


@dataclass(frozen=True)
class _Lookup:
    """What a conversation waits for: the `count` best passages for a query."""

    query: str
    count: int


T = TypeVar("T")
_Waits: TypeAlias = Generator["Turn | _Lookup", object, T]
_Conversation: TypeAlias = _Waits[Rollout]


def _look_up(retriever: Retriever, asked: Mapping[int, _Lookup]) -> dict[int, list[Passage] | ColSearcherError]:
    """The passages of every lookup, or why there are none; lookups of as many passages go to the retriever as one batch."""
    found: dict[int, list[Passage] | ColSearcherError] = {}
    for count in {lookup.count for lookup in asked.values()}:
        numbers = [number for number, lookup in asked.items() if lookup.count == count]
        try:
            ranked: Sequence[list[Passage] | ColSearcherError]
            ranked = retriever.search([asked[number].query for number in numbers], count)
        except ColSearcherError as problem:
            ranked = [problem] * len(numbers)
        found |= dict(zip(numbers, ranked, strict=True))
    return found


class _Ended(Exception):
    """Unwinds to `_Run.go` with the reason."""

    def __init__(self, stop: StopReason, error: str | None = None) -> None:
        self.stop = stop
        self.error = error


class _Run:
    """One conversation. A method that yields waits there; `generate` and `search` are called with `yield from`."""

    def __init__(self, task: Task, engine: Engine, protocol: Protocol, budgets: Budgets, cancelled: Callable[[], bool]) -> None:
        self.question = task.question
        self.engine = engine
        self.protocol = protocol
        self.sampling = task.sampling
        self.budgets = budgets
        self.on_event = task.on_event
        self.cancelled = cancelled
        self.started = time.monotonic()
        self.session: Session | None = None
        self.spent = {"generate": 0.0, "search": 0.0}
        self.ids: list[int] = []
        self.mask: list[int] = []
        self.logprobs: list[float] = []
        self.segments: list[Segment] = []
        self.searches: list[Search] = []
        self.queries: tuple[str, ...] = ()

    def go(self) -> _Conversation:
        prompt_ids = tuple(self.engine.encode_chat(self.protocol.messages(self.question)))
        self.on_event("prompt", {"ids": list(prompt_ids), "text": self.engine.decode(prompt_ids)})
        try:
            self.session = self.engine.start(prompt_ids)
            self.write(self.protocol.opening, "scaffold")
            yield from self.reason() if self.protocol.variant == "reasoning" else self.guide()
            raise AssertionError("a rollout ends by raising _Ended")
        except _Ended as ended:
            stop, error = ended.stop, ended.error
        except EngineProblem as problem:
            stop, error = StopReason.ENGINE_FAILED, str(problem)
        finally:
            if self.session is not None:
                self.session.close()
        timing = {"total": time.monotonic() - self.started, **self.spent}
        timing = {name: round(seconds, 4) for name, seconds in timing.items()}
        self.on_event("stop", {"stop": stop, "error": error, "timing_s": timing})
        return Rollout(
            self.question,
            prompt_ids,
            tuple(self.ids),
            tuple(self.mask),
            tuple(self.logprobs),
            tuple(self.segments),
            tuple(self.searches),
            stop,
            parse(self.segments),
            error,
            timing,
        )

    # The two ways to hold the conversation.

    def reason(self) -> _Waits[None]:
        """R1-Searcher: the policy writes every tag. After the last search it is told so and gets one more turn."""
        while True:
            turn = yield from self.generate((END_QUERY, END_ANSWER, BEGIN_DOCUMENTS), self.budgets.turn_tokens)
            if turn.stop is not StopReason.STOP_STRING:
                raise _Ended(turn.stop)
            if turn.matched == END_ANSWER:
                raise _Ended(StopReason.ANSWERED if self.read().answer else StopReason.FORMAT_BROKEN)
            query = self.asked()
            if turn.matched == BEGIN_DOCUMENTS or query is None:
                raise _Ended(StopReason.FORMAT_BROKEN)
            if self.searches and self.searches[-1].notice == NO_SEARCH_LEFT:
                raise _Ended(StopReason.SEARCH_BUDGET)
            yield from self.search(query)

    def guide(self) -> _Waits[None]:
        """Scaffolded: the environment opens and closes the tags, the policy fills in one query and the answer."""
        self.write(BEGIN_QUERY, "scaffold")
        turn = yield from self.generate((END_QUERY, "\n"), self.protocol.query_tokens)
        if turn.stop not in (StopReason.STOP_STRING, StopReason.TOKEN_BUDGET, StopReason.EOS):
            raise _Ended(turn.stop)
        if turn.matched != END_QUERY:
            self.write(END_QUERY, "scaffold")
        yield from self.search(self.asked() or "")
        reminder = self.protocol.reminder.format(question=escape(self.question))
        self.write(f"{reminder}{END_THINK}\n{ANSWER}\n", "scaffold")
        turn = yield from self.generate((END_ANSWER, "\n"), self.protocol.answer_tokens)
        if turn.matched != END_ANSWER:
            self.write(END_ANSWER, "scaffold")
        raise _Ended(turn.stop if turn.stop not in (StopReason.STOP_STRING, StopReason.EOS) else StopReason.ANSWERED)

    # The three things that happen in it.

    def generate(self, stop: tuple[str, ...], limit: int) -> _Waits[Generation]:
        """Let the policy write, and record exactly what it sampled."""
        limit = min(limit, self.sampling.max_tokens, self.budgets.total_tokens - len(self.ids))
        if limit <= 0:
            raise _Ended(StopReason.TOKEN_BUDGET)
        ids: list[int] = []
        logprobs: list[float] = []
        shown = 0
        begun = time.monotonic()

        def on_token(token: int, logprob: float) -> None:
            nonlocal shown
            ids.append(token)
            logprobs.append(logprob)
            text = self.engine.decode(ids)
            fresh = "" if text.endswith("\ufffd") else text[shown:]  # wait for the rest of a character
            shown += len(fresh)
            self.on_event("token", {"id": token, "logprob": round(logprob, 5), "text": fresh})

        turn = Turn(
            self.opened, replace(self.sampling, max_tokens=limit), stop=stop, on_token=on_token, interrupt=self.interrupt
        )
        yield turn
        self.spent["generate"] += time.monotonic() - begun
        ended_by_token = turn.generation is not None and turn.generation.stop is StopReason.EOS
        self.record(ids, 1, logprobs, "policy", ids[:-1] if ended_by_token else ids)
        written = turn.result
        self.on_event("turn", {"stop": written.stop, "matched": written.matched, "tokens": len(ids)})
        return written

    def write(self, text: str, source: Source) -> None:
        """Add what the environment says, whole or not at all."""
        ids = self.engine.encode(text)
        if len(ids) > self.budgets.total_tokens - len(self.ids):
            raise _Ended(StopReason.TOKEN_BUDGET)
        if len(ids) > self.opened.room:
            raise _Ended(StopReason.CONTEXT_FULL)
        self.opened.append(ids)
        self.record(ids, 0, [0.0] * len(ids), source, ids)
        self.on_event("written", {"source": source, "ids": ids, "text": text})

    def search(self, query: str) -> _Waits[None]:
        """Answer a query with pages, or with a notice."""
        if reason := self.interrupt():
            raise _Ended(reason)
        self.on_event("query", {"query": query})
        first = 1 + sum(len(search.passages) for search in self.searches)
        found: tuple[Passage, ...] = ()
        notice = self.refusal(query)
        if notice is None:
            found = yield from self.retrieve(query)
            notice = None if found else NOTHING_FOUND
        hits = [{"address": str(passage.address), "score": passage.score} for passage in found]
        self.on_event("hits", {"query": query, "hits": hits, "first": first, "notice": notice})
        self.searches.append(Search(query, found, first, notice))
        block = format_notice(notice) if notice else self.documents(query, found, first)
        self.write(f"\n{block}\n", "documents")

    def refusal(self, query: str) -> str | None:
        if len(self.searches) >= self.budgets.searches:
            return NO_SEARCH_LEFT
        if not tokens(query):
            return NO_QUERY
        if any(tokens(search.query) == tokens(query) for search in self.searches):
            return ALREADY_ASKED
        return None

    def retrieve(self, query: str) -> _Waits[tuple[Passage, ...]]:
        """The best pages that this rollout has not shown yet, in the order in which they are shown."""
        seen = {passage.address for search in self.searches for passage in search.passages}
        begun = time.monotonic()
        try:
            ranked = yield _Lookup(query, self.budgets.documents + len(seen))
        except ColSearcherError as problem:
            raise _Ended(StopReason.RETRIEVER_FAILED, str(problem)) from problem
        finally:
            self.spent["search"] += time.monotonic() - begun
        assert isinstance(ranked, list)
        fresh = [passage for passage in ranked if passage.address not in seen][: self.budgets.documents]
        return tuple(reversed(fresh) if self.protocol.best_last else fresh)

    def documents(self, query: str, found: tuple[Passage, ...], first: int) -> str:
        """The block, short enough that the policy can still answer afterwards."""
        left = min(self.opened.room, self.budgets.total_tokens - len(self.ids))
        budget = min(self.budgets.document_tokens, left - self.protocol.answer_tokens - TAG_TOKENS)
        if budget < len(found):
            raise _Ended(StopReason.CONTEXT_FULL if left == self.opened.room else StopReason.TOKEN_BUDGET)
        return format_documents(found, query, budget, lambda text: len(self.engine.encode(text)), first)

    # Bookkeeping.

    @property
    def opened(self) -> Session:
        assert self.session is not None
        return self.session

    def record(self, ids: list[int], written: int, logprobs: list[float], source: Source, shown: list[int]) -> None:
        self.ids += ids
        self.mask += [written] * len(ids)
        self.logprobs += logprobs
        self.segments.append(Segment(self.engine.decode(shown), source))

    def read(self) -> Parsed:
        return parse(self.segments)

    def asked(self) -> str | None:
        """The query that the last turn closed: empty if it has no words, None if it was never opened."""
        parsed = self.read()
        if len(parsed.queries) > len(self.queries):
            self.queries = parsed.queries
            return parsed.queries[-1]
        return None if Problem.QUERY_NOT_OPEN in parsed.problems else ""

    def interrupt(self) -> StopReason | None:
        if self.cancelled():
            return StopReason.CANCELLED
        if time.monotonic() - self.started > self.budgets.seconds:
            return StopReason.TIME_BUDGET
        return None
