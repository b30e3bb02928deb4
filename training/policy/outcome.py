"""What a rollout came to, as the facts that rewards ask for by name."""

from __future__ import annotations

from dataclasses import dataclass

from colsearcher.agent.answer import without_citations
from colsearcher.agent.conversation import ALREADY_ASKED, NO_SEARCH_LEFT
from colsearcher.agent.engine import StopReason
from colsearcher.agent.parser import Parsed
from colsearcher.agent.record import Rollout
from colsearcher.training.question import Question

Place = tuple[str, int]

_FAILED = (StopReason.RETRIEVER_FAILED, StopReason.ENGINE_FAILED, StopReason.CANCELLED, StopReason.TIME_BUDGET)


@dataclass(frozen=True)
class Outcome:
    """A rollout held against its question. Each field may be a parameter of a reward.

    Attributes:
        answer: what stands between the answer tags, without citations; None without a proper answer.
        accepted: the answers that count.
        parsed: what the transcript says, and what is wrong with it.
        written: all text that the policy wrote, tags and all.
        policy_tokens: how many tokens it wrote.
        searches: searches that showed at least one page.
        repeats: queries that had been asked before in the same rollout.
        over_budget: queries beyond the searches that it had.
        viewed: the pages that it was shown, each once, in the order in which it first saw them.
        gold: the pages that answer the question.
        judged: what a judge says of the answer, None where nobody was asked.
        failed: retriever or engine failed, or time ran out: nothing of it is the policy's fault or merit.
    """

    answer: str | None
    accepted: tuple[str, ...]
    parsed: Parsed
    written: str
    policy_tokens: int
    searches: int
    repeats: int
    over_budget: int
    viewed: tuple[Place, ...]
    gold: frozenset[Place]
    judged: float | None
    failed: bool


def outcome_of(rollout: Rollout, question: Question, judged: float | None = None) -> Outcome:
    """The facts of a rollout. What the environment wrote in the policy's stead (tags of the guided protocol) is not merit:
    `parsed.scaffolded` says so."""
    shown = [(page.address.document, page.address.page) for search in rollout.searches for page in search.passages]
    answer = rollout.parsed.answer
    notices = [search.notice for search in rollout.searches]
    return Outcome(
        answer=None if answer is None else without_citations(answer).strip(),
        accepted=question.answers,
        parsed=rollout.parsed,
        written="".join(segment.text for segment in rollout.segments if segment.source == "policy"),
        policy_tokens=sum(rollout.mask),
        searches=sum(bool(search.passages) for search in rollout.searches),
        repeats=notices.count(ALREADY_ASKED),
        over_budget=notices.count(NO_SEARCH_LEFT),
        viewed=tuple(dict.fromkeys(shown)),
        gold=frozenset((place.document, place.page) for place in question.evidence),
        judged=judged,
        failed=rollout.stop in _FAILED,
    )
