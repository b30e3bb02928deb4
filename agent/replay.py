"""A trace told again, offline: as the lines that `ask` printed, or as a page (`replay_page`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colsearcher.agent.trace import Event
from colsearcher.indexes.errors import FileProblem


@dataclass(frozen=True)
class Token:
    """A token that the policy sampled: its text, its natural log-probability, the entropy of the distribution that it came
    from in nats (None where the engine did not tell it), and when."""

    text: str
    logprob: float
    entropy: float | None
    at_s: float


@dataclass(frozen=True)
class Hit:
    """A page of a search: its number in the rollout, address and score."""

    number: int
    address: str
    score: float


@dataclass(frozen=True)
class Step:
    """One stretch of the conversation.

    Attributes:
        kind: "policy" (sampled), "scaffold" or "documents" (written by the environment), "search", "look".
        text: what was written; of a search its query, of a look what the policy named.
        tokens: of a policy's stretch.
        hits: of a search, in the order shown.
        place: of a look, what it was shown.
        notice: what a search or look was told in place of pages.
        begin_s, end_s: since the trace was opened.
    """

    kind: str
    text: str
    begin_s: float
    end_s: float
    tokens: tuple[Token, ...] = ()
    hits: tuple[Hit, ...] = ()
    place: str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class Replay:
    """What a trace tells. `answer` is the event's data, empty where the run was killed before it."""

    question: str
    models: Mapping[str, str]
    steps: tuple[Step, ...]
    stop: str
    error: str | None
    timing_s: Mapping[str, float]
    answer: Mapping[str, Any]

    @property
    def searches(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.kind == "search")


def replay_of(events: Sequence[Event]) -> Replay:
    """Put a trace's events together.

    Raises:
        FileProblem: the trace does not begin with a question.
    """
    if not events or events[0].kind != "ask":
        raise FileProblem("The trace does not begin with a question; it is empty, or not one of `colsearcher ask`.")
    first: Mapping[str, Any] = events[0].data
    steps: list[Step] = []
    tokens: list[Token] = []
    last: dict[str, Mapping[str, Any]] = {}
    before = events[0].at_s

    def close_turn() -> None:
        if tokens:
            text = "".join(token.text for token in tokens)
            steps.append(Step("policy", text, begun, tokens[-1].at_s, tuple(tokens)))
            tokens.clear()

    begun = before
    for event in events[1:]:
        data: Mapping[str, Any] = event.data
        if event.kind == "token":
            if not tokens:
                begun = before
            tokens.append(Token(str(data["text"]), float(data["logprob"]), data.get("entropy"), event.at_s))
        else:
            close_turn()
        if event.kind == "written":
            steps.append(Step(str(data["source"]), str(data["text"]), before, event.at_s))
        elif event.kind == "hits":
            numbered = enumerate(data["hits"], int(data["first"]))
            hits = tuple(Hit(number, str(hit["address"]), float(hit["score"])) for number, hit in numbered)
            steps.append(Step("search", str(data["query"]), before, event.at_s, hits=hits, notice=data["notice"]))
        elif event.kind == "look":
            place = data["address"]
            steps.append(Step("look", str(data["asked"]), before, event.at_s, place=place, notice=data["notice"]))
        elif event.kind in ("stop", "answer"):
            last[event.kind] = data
        before = event.at_s
    close_turn()
    stop = last.get("stop", {})
    return Replay(
        str(first["question"]),
        dict(first["models"]),
        tuple(steps),
        str(stop.get("stop", "cut short")),
        stop.get("error"),
        dict(stop.get("timing_s", {})),
        dict(last.get("answer", {})),
    )
