"""The exact record of a rollout: what was asked, written, searched and shown, and what it might spend. Data, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from colsearcher.agent.engine import Sampling, StopReason
from colsearcher.agent.parser import Parsed, Segment
from colsearcher.agent.retriever import Passage
from colsearcher.indexes.address import Address

if TYPE_CHECKING:
    from colsearcher.agent.pictures import Picture

OnEvent = Callable[[str, Mapping[str, object]], None]  # kind, JSON values; the kinds are listed in `trace`


def ignore(kind: str, data: Mapping[str, object]) -> None:
    """The `on_event` of a caller who does not want to know."""


@dataclass(frozen=True)
class Budgets:
    """What one rollout may spend.

    Attributes:
        total_tokens: of everything after the prompt, documents included.
        turn_tokens: of one turn of the policy (`Sampling.max_tokens` applies too).
        searches: at most so many queries reach the retriever.
        documents: pages per search.
        document_tokens: of one search's pages together, their tags not counted.
        picture_tokens: the same for a policy that sees; a look has as much for itself.
        looks: at most so many looks at a part of a page.
        seconds: wall time; asked before each token and each search.
    """

    total_tokens: int = 4096
    turn_tokens: int = 512
    searches: int = 3
    documents: int = 3
    document_tokens: int = 480
    picture_tokens: int = 2048
    looks: int = 4
    seconds: float = 120.0


@dataclass(frozen=True)
class Search:
    """One query of the policy and what came back, in the order shown. `first` is the number of the first passage."""

    query: str
    passages: tuple[Passage, ...]
    first: int
    notice: str | None = None


@dataclass(frozen=True)
class Look:
    """A look of the policy at a part of a page: what it named, and the place that it was shown, or why it was not."""

    asked: str
    place: Address | None
    notice: str | None = None


@dataclass(frozen=True)
class Shown:
    """A picture in a rollout: of which place, the picture, and where among `Rollout.ids` its first token is."""

    place: Address
    picture: Picture
    at: int


@dataclass(frozen=True)
class Rollout:
    """The exact record of one conversation.

    `ids`, `mask` and `logprobs` have one entry per token after the prompt. `mask` is 1 where the policy wrote; `logprobs`
    is 0.0 where it did not. `segments` is the same stretch as text, for eyes and for `parse`; `pictures` are in the order
    in which they were shown.
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
    looks: tuple[Look, ...] = ()
    pictures: tuple[Shown, ...] = ()
    error: str | None = None
    timing_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


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
