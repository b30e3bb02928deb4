"""One conversation: a generator that yields what it waits for, a turn of the policy or a lookup, and returns the record.

What the policy wrote and what the environment wrote are told apart when they are written, never by looking for tags in the
result: `mask` is 1 exactly on tokens that the engine sampled. A policy that sees is shown pictures of pages in place of their
words. Left out: who serves what it waits for (`rollout`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from colsearcher.agent.engine import Engine, EngineProblem, Generation, Session, StopReason, Turn
from colsearcher.agent.parser import Parsed, Problem, Segment, Source, parse
from colsearcher.agent.protocol import (
    ANSWER,
    BEGIN_DOCUMENTS,
    BEGIN_QUERY,
    END_ANSWER,
    END_DOCUMENTS,
    END_LOOK,
    END_QUERY,
    END_THINK,
    Protocol,
    escape,
    format_documents,
    format_notice,
)
from colsearcher.agent.record import Budgets, Look, Rollout, Search, Shown, Task
from colsearcher.agent.retriever import Passage
from colsearcher.agent.viewer import Viewer
from colsearcher.agent.wording import tokens
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import ColSearcherError, UserError

if TYPE_CHECKING:
    from PIL import Image

# What the environment says instead of documents.
NO_SEARCH_LEFT = "No searches are left. Give the answer now."
ALREADY_ASKED = "This query was asked before; its documents are above. Ask something else or answer."
NO_QUERY = "The query has no words."
NOTHING_FOUND = "No further page was found."
NO_LOOK_LEFT = "You cannot look again. Search or answer."
NO_SUCH_PLACE = "There is no such place. Name a page by its address, as it stands above."
NOT_SEEN = "Only pages that a search has found can be looked at."

TAG_TOKENS = 64  # room kept for the tags around documents and answer, whatever the tokenizer makes of them


@dataclass(frozen=True)
class Lookup:
    """What a conversation waits for: the `count` best passages for a query."""

    query: str
    count: int


T = TypeVar("T")
Waits: TypeAlias = Generator["Turn | Lookup", object, T]


class _Ended(Exception):
    """Unwinds to `Conversation.go` with the reason."""

    def __init__(self, stop: StopReason, error: str | None = None) -> None:
        self.stop = stop
        self.error = error


class Conversation:
    """One conversation. A method that yields waits there; `generate` and `search` are called with `yield from`."""

    def __init__(
        self,
        task: Task,
        engine: Engine,
        viewer: Viewer | None,
        protocol: Protocol,
        budgets: Budgets,
        cancelled: Callable[[], bool],
    ) -> None:
        self.question = task.question
        self.engine = engine
        self.viewer = viewer
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
        self.looks: list[Look] = []
        self.pictures: list[Shown] = []
        self.queries: tuple[str, ...] = ()

    def go(self) -> Waits[Rollout]:
        prompt_ids = tuple(self.engine.encode_chat(self.protocol.messages(self.question)))
        self.on_event("prompt", {"ids": list(prompt_ids), "text": self.engine.decode(prompt_ids)})
        try:
            self.session = self.engine.start(prompt_ids)
            self.write(self.protocol.opening, source="scaffold")
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
            tuple(self.looks),
            tuple(self.pictures),
            error,
            timing,
        )

    # The two ways to hold the conversation.

    def reason(self) -> Waits[None]:
        """R1-Searcher: the policy writes every tag. After the last search it is told so and gets one more turn."""
        stops = (END_QUERY, END_ANSWER, BEGIN_DOCUMENTS, *((END_LOOK,) if self.protocol.looks else ()))
        while True:
            turn = yield from self.generate(stops, self.budgets.turn_tokens)
            if turn.stop is not StopReason.STOP_STRING:
                raise _Ended(turn.stop)
            if turn.matched == END_ANSWER:
                raise _Ended(StopReason.ANSWERED if self.read().answer else StopReason.FORMAT_BROKEN)
            if turn.matched == END_LOOK:
                self.look()
                continue
            query = self.asked()
            if turn.matched == BEGIN_DOCUMENTS or query is None:
                raise _Ended(StopReason.FORMAT_BROKEN)
            if self.searches and self.searches[-1].notice == NO_SEARCH_LEFT:
                raise _Ended(StopReason.SEARCH_BUDGET)
            yield from self.search(query)

    def guide(self) -> Waits[None]:
        """Scaffolded: the environment opens and closes the tags, the policy fills in one query and the answer."""
        self.write(BEGIN_QUERY, source="scaffold")
        turn = yield from self.generate((END_QUERY, "\n"), self.protocol.query_tokens)
        if turn.stop not in (StopReason.STOP_STRING, StopReason.TOKEN_BUDGET, StopReason.EOS):
            raise _Ended(turn.stop)
        if turn.matched != END_QUERY:
            self.write(END_QUERY, source="scaffold")
        yield from self.search(self.asked() or "")
        reminder = self.protocol.reminder.format(question=escape(self.question))
        self.write(f"{reminder}{END_THINK}\n{ANSWER}\n", source="scaffold")
        turn = yield from self.generate((END_ANSWER, "\n"), self.protocol.answer_tokens)
        if turn.matched != END_ANSWER:
            self.write(END_ANSWER, source="scaffold")
        raise _Ended(turn.stop if turn.stop not in (StopReason.STOP_STRING, StopReason.EOS) else StopReason.ANSWERED)

    # The three things that happen in it.

    def generate(self, stop: tuple[str, ...], limit: int) -> Waits[Generation]:
        """Let the policy write, and record exactly what it sampled."""
        limit = min(limit, self.sampling.max_tokens, self.budgets.total_tokens - len(self.ids))
        if limit <= 0:
            raise _Ended(StopReason.TOKEN_BUDGET)
        ids: list[int] = []
        logprobs: list[float] = []
        shown = 0
        begun = time.monotonic()

        def on_token(token: int, logprob: float, entropy: float | None) -> None:
            nonlocal shown
            ids.append(token)
            logprobs.append(logprob)
            text = self.engine.decode(ids)
            fresh = "" if text.endswith("\ufffd") else text[shown:]  # wait for the rest of a character
            shown += len(fresh)
            doubt = {} if entropy is None else {"entropy": round(entropy, 4)}
            self.on_event("token", {"id": token, "logprob": round(logprob, 5), **doubt, "text": fresh})

        turn = Turn(
            self.opened, replace(self.sampling, max_tokens=limit), stop=stop, on_token=on_token, interrupt=self.interrupt
        )
        yield turn
        self.spent["generate"] += time.monotonic() - begun
        ended_by_token = turn.generation is not None and turn.generation.stop is StopReason.EOS
        self.record(ids, 1, logprobs, "policy", self.engine.decode(ids[:-1] if ended_by_token else ids))
        written = turn.result
        self.on_event("turn", {"stop": written.stop, "matched": written.matched, "tokens": len(ids)})
        return written

    def write(self, *parts: str | tuple[Address, Image.Image], source: Source, picture_tokens: int = 0) -> None:
        """Add what the environment says and shows, whole or not at all; each picture has so many tokens at most."""
        ids: list[int] = []
        text = ""
        shown: list[Shown] = []
        for part in parts:
            if isinstance(part, str):
                ids += self.engine.encode(part)
                text += part
                continue
            place, image = part
            tokens, picture = self.engine.picture(image, picture_tokens)
            shown.append(Shown(place, picture, len(self.ids) + len(ids) + 1))
            ids += tokens
            text += f"[picture of {place}, {picture.tokens} tokens]"
        if len(ids) > self.budgets.total_tokens - len(self.ids):
            raise _Ended(StopReason.TOKEN_BUDGET)
        if len(ids) > self.opened.room:
            raise _Ended(StopReason.CONTEXT_FULL)
        self.opened.append(ids, [one.picture for one in shown])
        self.pictures += shown
        self.record(ids, 0, [0.0] * len(ids), source, text)
        pictures = [{"address": str(one.place), "at": one.at, "tokens": one.picture.tokens} for one in shown]
        self.on_event("written", {"source": source, "ids": ids, "text": text, "pictures": pictures})

    def search(self, query: str) -> Waits[None]:
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
        if notice:
            self.notice(notice)
        elif self.viewer is not None and self.engine.sees:
            self.show(
                [
                    (passage.address, f"({number}) [{escape(str(passage.address))}] ")
                    for number, passage in enumerate(found, first)
                ]
            )
        else:
            self.write(f"\n{self.documents(query, found, first)}\n", source="documents")

    def look(self) -> None:
        """Show a part of a page that was found, under the page's number, or say why not."""
        looks = self.read().looks
        if len(looks) == len(self.looks):
            raise _Ended(StopReason.FORMAT_BROKEN)
        place, notice = self.place_of(looks[-1])
        self.on_event("look", {"asked": looks[-1], "address": None if place is None else str(place), "notice": notice})
        self.looks.append(Look(looks[-1], place, notice))
        if place is None:
            self.notice(notice or NO_SUCH_PLACE)
            return
        number = self.numbers[place.document, place.page]
        if self.engine.sees:
            self.show([(place, f"({number}) [{escape(str(place))}] ")])
            return
        assert self.viewer is not None
        try:
            seen = Passage(place, self.viewer.text(place), 1.0)
        except ColSearcherError as problem:
            raise _Ended(StopReason.RETRIEVER_FAILED, str(problem)) from problem
        self.write(f"\n{self.documents(self.question, (seen,), number)}\n", source="documents")

    def place_of(self, asked: str) -> tuple[Address | None, str | None]:
        """The place that a look names, or why it cannot be shown."""
        if self.viewer is None or sum(look.notice is None for look in self.looks) >= self.budgets.looks:
            return None, NO_LOOK_LEFT
        try:
            place = Address.parse(asked)
        except UserError:
            return None, NO_SUCH_PLACE
        return (place, None) if (place.document, place.page) in self.numbers else (None, NOT_SEEN)

    @property
    def numbers(self) -> dict[tuple[str, int], int]:
        """The number under which each page, by document and number in it, was shown."""
        return {
            (page.address.document, page.address.page): number
            for search in self.searches
            for number, page in enumerate(search.passages, search.first)
        }

    def notice(self, text: str) -> None:
        self.write(f"\n{format_notice(text)}\n", source="documents")

    def show(self, places: Sequence[tuple[Address, str]]) -> None:
        """Pictures of places, each after its heading."""
        assert self.viewer is not None
        parts: list[str | tuple[Address, Image.Image]] = [f"\n{BEGIN_DOCUMENTS}\n"]
        try:
            for place, heading in places:
                parts += [heading, (place, self.viewer.picture(place)), "\n"]
        except ColSearcherError as problem:
            raise _Ended(StopReason.RETRIEVER_FAILED, str(problem)) from problem
        self.write(*parts, f"{END_DOCUMENTS}\n", source="documents", picture_tokens=self.budgets.picture_tokens // len(places))

    def refusal(self, query: str) -> str | None:
        if len(self.searches) >= self.budgets.searches:
            return NO_SEARCH_LEFT
        if not tokens(query):
            return NO_QUERY
        if any(tokens(search.query) == tokens(query) for search in self.searches):
            return ALREADY_ASKED
        return None

    def retrieve(self, query: str) -> Waits[tuple[Passage, ...]]:
        """The best pages that this rollout has not shown yet, in the order in which they are shown."""
        seen = {passage.address for search in self.searches for passage in search.passages}
        begun = time.monotonic()
        try:
            ranked = yield Lookup(query, self.budgets.documents + len(seen))
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

    def record(self, ids: list[int], written: int, logprobs: list[float], source: Source, text: str) -> None:
        self.ids += ids
        self.mask += [written] * len(ids)
        self.logprobs += logprobs
        self.segments.append(Segment(text, source))

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
