"""What engines have in common that run elsewhere: in vLLM's own loop, or behind a socket.

A turn is sent off once, with everything that the conversation holds; its tokens then come in while `work` sees to other turns
too, and those of a turn that `work` was not asked about wait. A turn that ends here before it ends there (interrupted, or its
stop string seen) is called off there.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from colsearcher.agent.engine import EngineProblem, Message, StopReason, StopStrings, Turn, check_prompt
from colsearcher.agent.pictures import Picture, places_of

if TYPE_CHECKING:
    from PIL import Image

# How long an interruption may go unnoticed while no token comes.
_ASK_EVERY_S = 0.1


@dataclass(frozen=True)
class PrefixCache:
    """Tokens of prompts that were looked up in a prefix cache, and those that were found there."""

    queries: int
    hits: int

    def __sub__(self, other: PrefixCache) -> PrefixCache:
        return PrefixCache(self.queries - other.queries, self.hits - other.hits)


@dataclass(frozen=True)
class Arrival:
    """What came in of a turn: tokens with their logprobs, and why it ended, if it did."""

    tokens: tuple[tuple[int, float], ...] = ()
    stop: StopReason | None = None
    matched: str | None = None
    problem: EngineProblem | None = None


@dataclass(eq=False)
class Stream:
    """A turn that was sent off, and what has come in of it and was not taken up yet."""

    turn: Turn
    arrivals: deque[Arrival] = field(default_factory=deque)

    def call_off(self) -> None:
        """Nobody waits for the rest."""


class ServedEngine(ABC):
    """An `Engine` but for where the tokens come from.

    Attributes:
        exact: whether ids and logprobs are those that the model sampled, as a trainer needs them.
    """

    exact = True

    def __init__(self, name: str, revision: str, context: int) -> None:
        self.name = name
        self.revision = revision
        self.context = context

    @abstractmethod
    def encode(self, text: str) -> list[int]: ...

    @abstractmethod
    def encode_chat(self, messages: Sequence[Message]) -> list[int]: ...

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str: ...

    @property
    @abstractmethod
    def sees(self) -> bool: ...

    @property
    @abstractmethod
    def pad_token(self) -> int | None:
        """The token that stands for a square of a picture; None where there are no pictures."""

    @abstractmethod
    def picture(self, image: Image.Image, max_tokens: int) -> tuple[list[int], Picture]: ...

    def start(self, prompt_ids: Sequence[int]) -> ServedSession:
        check_prompt(self.name, prompt_ids, self.context)
        return ServedSession(self, prompt_ids)

    def work(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            session = self._own(turn)
            if session.stream is None or session.stream.turn is not turn:
                session.call_off()
                if turn.may_go_on():
                    session.begin(turn, self._send(turn, session.next_seed(turn.sampling.seed)))
            else:
                session.take_up()
        wanted, asked = set(turns), time.monotonic()
        while not any(turn.ended for turn in turns):
            for stream in self._wait(_ASK_EVERY_S):
                if stream.turn in wanted and not stream.turn.ended:
                    self._own(stream.turn).take_up()
            if time.monotonic() - asked > _ASK_EVERY_S:
                asked = time.monotonic()
                for turn in turns:
                    if not turn.ended and (reason := turn.interrupt()):
                        turn.end(reason)
        for turn in turns:
            if turn.ended:
                self._own(turn).call_off()

    def prefix_cache(self) -> PrefixCache | None:
        """What there is of prompts in the cache, since the start; None where nothing is told of it."""
        return None

    @abstractmethod
    def _send(self, turn: Turn, seed: int) -> Stream:
        """Send a turn off."""

    @abstractmethod
    def _wait(self, seconds: float) -> Iterable[Stream]:
        """The streams that something new has come in of; none if nothing comes for so long."""

    def _own(self, turn: Turn) -> ServedSession:
        assert isinstance(turn.session, ServedSession)
        return turn.session


class ServedSession:
    """One conversation.

    Attributes:
        pictures: with where among the tokens those of each begin.
    """

    def __init__(self, engine: ServedEngine, prompt_ids: Sequence[int]) -> None:
        self._engine = engine
        self.prompt_length = len(prompt_ids)
        self.tokens = list(prompt_ids)
        self.pictures: list[tuple[int, Picture]] = []
        self.stream: Stream | None = None
        self._stops = StopStrings((), engine.decode)
        self._turns = 0

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self.tokens)

    @property
    def room(self) -> int:
        return self._engine.context - len(self.tokens)

    def append(self, ids: Sequence[int], pictures: Sequence[Picture] = ()) -> None:
        if len(ids) > self.room:
            raise ValueError(f"{len(ids)} tokens do not fit, there is room for {self.room}")
        places = places_of(ids, self._engine.pad_token, pictures)
        self.pictures += [(len(self.tokens) + at, picture) for at, picture in zip(places, pictures, strict=True)]
        self.tokens += ids

    def close(self) -> None:
        self.call_off()

    def next_seed(self, seed: int) -> int:
        """Of the next turn: each turn has a random stream of its own, which the seed and its number decide."""
        self._turns += 1
        return int.from_bytes(hashlib.sha256(f"{seed} {self._turns}".encode()).digest()[:7])

    def begin(self, turn: Turn, stream: Stream) -> None:
        self.stream = stream
        self._stops = StopStrings(turn.stop, self._engine.decode)

    def call_off(self) -> None:
        """Let go of the turn that was sent off last."""
        if self.stream is not None:
            self.stream.call_off()
            self.stream = None

    def take_up(self) -> None:
        """Bring what has come in into the turn."""
        stream = self.stream
        while stream is not None and stream.arrivals and not stream.turn.ended:
            self._take(stream.turn, stream.arrivals.popleft())

    def _take(self, turn: Turn, arrival: Arrival) -> None:
        for token, logprob in arrival.tokens:
            if reason := turn.interrupt():
                turn.end(reason)
                return
            self.tokens.append(token)
            turn.add(token, logprob)
            if matched := self._stops.push(token):
                turn.end(StopReason.STOP_STRING, matched)
                return
        if arrival.problem is not None:
            turn.failure = arrival.problem
        elif arrival.stop is StopReason.TOKEN_BUDGET:
            full = self.room <= 0 and len(turn.ids) < turn.sampling.max_tokens
            turn.end(StopReason.CONTEXT_FULL if full else StopReason.TOKEN_BUDGET)
        elif arrival.stop is not None:
            turn.end(arrival.stop, arrival.matched)
