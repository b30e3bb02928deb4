"""What the agent asks of a language model: token ids in, token ids, logprobs and a stop reason out.

Text is for eyes only. What the policy sampled is never decoded and encoded again on its way into the next turn, because
another spelling of the same text is another trajectory (and would train tokens that were never sampled).

A caller starts sessions, asks for turns of theirs, and lets the engine work on all of them at once until one has ended; what
it does with that one (search, append documents, ask for the next turn) does not stop the others.

Left out here: any model. `transformers_engine` runs one in this process; others (vLLM, an HTTP server) fit the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from colsearcher.indexes.errors import ColSearcherError

if TYPE_CHECKING:
    from PIL import Image

    from colsearcher.agent.pictures import Picture

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": …}

ENGINES = "transformers, vllm, http://HOST:PORT (a vLLM server) or openai:MODEL@https://HOST/v1 (?sees: it takes images)"
"""The engines by name, for flags and messages; `engines.load_engine` makes them."""


class EngineProblem(ColSearcherError):
    """The model call failed (out of memory, connection lost). The rollout ends with `StopReason.ENGINE_FAILED`."""


class StopReason(StrEnum):
    """Why a turn or a whole rollout ended.

    The first group ends a turn and comes from an engine; the second ends a rollout and comes from `rollout`.
    """

    STOP_STRING = "stop_string"  # a text that the caller waits for was completed
    EOS = "eos"  # the policy ended its message; as the end of a rollout: without having answered
    TOKEN_BUDGET = "token_budget"
    CONTEXT_FULL = "context_full"
    TIME_BUDGET = "time_budget"
    CANCELLED = "cancelled"

    ANSWERED = "answered"
    SEARCH_BUDGET = "search_budget"  # asked to search again after it was told that no search is left
    FORMAT_BROKEN = "format_broken"
    ENGINE_FAILED = "engine_failed"
    RETRIEVER_FAILED = "retriever_failed"


@dataclass(frozen=True)
class Sampling:
    """How to pick the next token.

    Attributes:
        temperature: 0 is greedy.
        top_p: 1 samples from the whole distribution, which is what a trainer assumes.
        seed: of the session's own random stream; the same seed and ids give the same tokens on the same machine.
        max_tokens: at most so many tokens in one turn.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1 or self.max_tokens < 0:
            raise ValueError(f"temperature >= 0, 0 < top_p <= 1 and max_tokens >= 0, not {self}")


@dataclass(frozen=True)
class Generation:
    """One turn: what the policy wrote.

    Attributes:
        ids: sampled token ids, the one that completed a stop string or ended the message included.
        logprobs: natural logarithms, one per id, of the full softmax at the sampling temperature (1 when greedy), before
            `top_p` cuts it.
        stop: why the turn ended.
        matched: the stop string that ended it, for `STOP_STRING`.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: StopReason
    matched: str | None = None

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.logprobs):
            raise ValueError(f"{len(self.ids)} ids but {len(self.logprobs)} logprobs")


OnToken = Callable[[int, float, float | None], None]  # token id, logprob, entropy; called as each token is sampled
Interrupt = Callable[[], StopReason | None]  # asked before each token; a reason ends the turn


def never() -> None:
    """The `interrupt` of a caller who does not interrupt."""
    return


def _unheard(token: int, logprob: float, entropy: float | None) -> None:
    return None


class Session(Protocol):
    """One conversation whose keys and values stay cached between turns."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Everything that the model has seen or written, in order, the prompt included."""
        ...

    @property
    def room(self) -> int:
        """How many tokens still fit into the context."""
        ...

    def append(self, ids: Sequence[int], pictures: Sequence[Picture] = ()) -> None:
        """Add what the environment wrote. Nothing is sampled.

        Args:
            pictures: those whose tokens (`Engine.picture`) are among the ids, in order.

        Raises:
            ValueError: there are more tokens than `room`, or the pictures are not those that the ids stand for.
        """
        ...

    def close(self) -> None:
        """Give back what the engine keeps for the conversation; it takes no further turn."""
        ...


@dataclass(eq=False)
class Turn:
    """A turn of a session: from the moment when it is asked for to its end. An engine fills in `ids`, `logprobs`, and at the
    end either `generation` or `failure`.

    Attributes:
        on_token: an engine that cannot stream calls it for all tokens at the end of the turn.
        interrupt: asked before each token by an engine that streams, now and then by one that does not.
        failure: the model call failed. The tokens in `ids` are in the session all the same.
    """

    session: Session
    sampling: Sampling
    stop: Sequence[str] = ()
    on_token: OnToken = _unheard
    interrupt: Interrupt = never
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    generation: Generation | None = None
    failure: EngineProblem | None = None

    @property
    def ended(self) -> bool:
        return self.generation is not None or self.failure is not None

    @property
    def result(self) -> Generation:
        """What was written.

        Raises:
            EngineProblem: the model call failed.
        """
        if self.failure is not None:
            raise self.failure
        if self.generation is None:
            raise ValueError("the turn has not ended")
        return self.generation

    def end(self, stop: StopReason, matched: str | None = None) -> None:
        self.generation = Generation(tuple(self.ids), tuple(self.logprobs), stop, matched)

    def may_go_on(self) -> bool:
        """Whether another token may be sampled; ends the turn where it may not."""
        if reason := self.interrupt():
            self.end(reason)
        elif len(self.ids) >= self.sampling.max_tokens:
            self.end(StopReason.TOKEN_BUDGET)
        elif self.session.room <= 0:
            self.end(StopReason.CONTEXT_FULL)
        return not self.ended

    def add(self, token: int, logprob: float, entropy: float | None = None) -> None:
        """Take in a sampled token; `entropy` in nats is that of the distribution that it came from, None if not known."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.on_token(token, logprob, entropy)


class Engine(Protocol):
    """A policy ready to run."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def exact(self) -> bool:
        """Whether ids and logprobs are those that the model sampled. Training takes no engine where they are not."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of plain text. Control tokens spelled out in it (`<|im_end|>`) stay ordinary characters."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a chat up to where the assistant starts to write. Message contents cannot forge control tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    @property
    def sees(self) -> bool:
        """Whether pictures can be put into a conversation."""
        ...

    def picture(self, image: Image.Image, max_tokens: int) -> tuple[list[int], Picture]:
        """The tokens that stand for an image, about `max_tokens` at most, and what the model needs besides.

        Raises:
            EngineProblem: the policy does not see.
        """
        ...

    def start(self, prompt_ids: Sequence[int]) -> Session:
        """Begin a conversation.

        Raises:
            EngineProblem: the prompt does not fit into the context.
        """
        ...

    def work(self, turns: Sequence[Turn]) -> None:
        """Work on turns, at most one per session, none of them ended, until at least one has. A turn that was begun in an
        earlier call goes on; leaving it out of a call only makes it wait."""
        ...


def check_prompt(name: str, ids: Sequence[int], context: int) -> None:
    """Whether a policy can begin with a prompt, one token being left to write.

    Raises:
        EngineProblem: it is empty, or does not fit into the context.
    """
    if not 0 < len(ids) < context:
        raise EngineProblem(f"The prompt has {len(ids)} tokens; {name} takes 1 to {context - 1}. Shorten the question.")


def take_turn(engine: Engine, turn: Turn) -> Generation:
    """One turn from beginning to end.

    Raises:
        EngineProblem: the model call failed.
    """
    while not turn.ended:
        engine.work([turn])
    return turn.result


class StopStrings:
    """Watches one turn for the first token after which its decoded text holds a stop string.

    A tag spans several tokens and may share its last one with what follows (`>.` or `>\\n`), so ids cannot be compared.
    The completing token is kept whole: what trails in it was sampled too.
    """

    def __init__(self, stop: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self._stop = tuple(stop)
        self._decode = decode
        self._tail: list[int] = []
        # Each token but a control token adds a byte or more, so this many of them hold any stop string.
        self._keep = max((len(text.encode()) for text in self._stop), default=0) + 1

    def push(self, token: int) -> str | None:
        """The stop string that this token completes, the one that ends first if there are several."""
        if not self._stop:
            return None
        self._tail = [*self._tail[-self._keep :], token]
        text = self._decode(self._tail)
        found = [(text.index(stop) + len(stop), stop) for stop in self._stop if stop in text]
        return min(found)[1] if found else None
