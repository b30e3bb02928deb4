"""Rewards: plain functions that ask for the facts of an `Outcome` by parameter name, and weighted sums of them.

    def short_answer(answer: str | None) -> float: …
    RewardSum((Term(answer_f1, 1.0), Term(short_answer, 0.1)))

A reward that cannot be given (no gold pages, no judge) is None and left out of the sum; a rollout whose retriever or engine
failed has None for everything, so that nothing is learned from it. What each is after:

| reward | from |
|---|---|
| `searched`, `format_kept`, `broken_tags` | R1-Searcher's paper (Song et al., 2025) |
| `cover_or_not`, `tags_balanced_and_searched`, `thought_and_answered`, `broken_answer` | R1-Searcher's server code |
| `answer_f1`, `answer_em`, `answer_cover` | SQuAD and HotpotQA; cover in order and in few words |
| `answer_anls` | Biten et al., 2019 |
| `answer_characters` | character error rate, digits and currency double |
| `evidence_ndcg`, `judge` | VRAG-RL (Wang et al., 2025) |
| `search_cost`, `repeated_query`, `too_long` | Search-R1's ablations; DAPO's soft overlong punishment (Yu et al., 2025) |
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from colsearcher.agent.parser import Parsed, Problem
from colsearcher.indexes.errors import UserError
from colsearcher.training.answer_metrics import normalise, score_answer
from colsearcher.training.policy.outcome import Outcome, Place

Reward = Callable[..., float | None]

LONGEST_ANSWER = 10
"""Words of an answer that R1-Searcher still takes for one."""

# Ideographs and kana: R1-Searcher's policies drift into Chinese where they are rewarded for nothing else.
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_DOUBLE = frozenset("0123456789$€£¥%")
_QUERY_PROBLEMS = frozenset(
    {
        Problem.QUERY_OUTSIDE_THINK,
        Problem.QUERY_NESTED,
        Problem.QUERY_NOT_OPEN,
        Problem.QUERY_NOT_CLOSED,
        Problem.QUERY_EMPTY,
        Problem.DOCUMENTS_FORGED,
    }
)


def searched(searches: int) -> float:
    """1 for at least one search that showed a page: an empty, a repeated or a forged one shows none."""
    return float(searches > 0)


def format_kept(parsed: Parsed) -> float:
    """1 for a transcript without a fault whose tags the policy wrote all by itself."""
    return float(not parsed.problems and not parsed.scaffolded)


def tags_balanced_and_searched(parsed: Parsed, searches: int) -> float:
    """1 for queries without a fault in their tags, and a search."""
    return float(searches > 0 and not _QUERY_PROBLEMS & set(parsed.problems) and not parsed.scaffolded)


def thought_and_answered(parsed: Parsed) -> float:
    """1 for think and answer tags exactly right; what is wrong with queries does not count."""
    return float(not set(parsed.problems) - _QUERY_PROBLEMS and not parsed.scaffolded)


def cover_or_not(answer: str | None, accepted: Sequence[str]) -> float:
    """1 where an accepted answer stands in the answer (`answer_cover`), else -1."""
    return 1.0 if answer_cover(answer, accepted) else -1.0


def broken_tags(parsed: Parsed, written: str) -> float:
    """-1 for any fault in the tags, or for ideographs that the policy wrote."""
    return -1.0 if parsed.problems or parsed.scaffolded or _CJK.search(written) else 0.0


def broken_answer(parsed: Parsed, written: str, answer: str | None) -> float:
    """-1 for all that `broken_tags` is for, an answer of more than ten words, or a turn that plays the other side."""
    long = answer is not None and len(answer.split()) > LONGEST_ANSWER
    return -1.0 if broken_tags(parsed, written) or long or "Assistant" in written else 0.0


def answer_f1(answer: str | None, accepted: Sequence[str]) -> float:
    return score_answer(answer, accepted).f1


def answer_em(answer: str | None, accepted: Sequence[str]) -> float:
    return score_answer(answer, accepted).em


def answer_anls(answer: str | None, accepted: Sequence[str]) -> float:
    return score_answer(answer, accepted).anls


def answer_cover(answer: str | None, accepted: Sequence[str]) -> float:
    """1 where an accepted answer stands in the answer, word after word, and the answer has at most three times its words and
    one: a list of candidates covers everything and answers nothing.

    >>> answer_cover("It was Ada Finch", ["Ada Finch"]), answer_cover("Paris London Berlin yes no", ["London"])
    (1.0, 0.0)
    """
    words = len(normalise(answer or ""))
    return max((score_answer(answer, [gold]).cem for gold in accepted if words <= 3 * len(normalise(gold)) + 1), default=0.0)


def answer_characters(answer: str | None, accepted: Sequence[str]) -> float:
    """1 less the weighted edit distance over the weight of the accepted answer, at least 0; digits and currency weigh double.

    >>> answer_characters("$12", ["$13"]), answer_characters("abc", ["abd"])
    (0.6666666666666667, 0.6666666666666667)
    """
    if not answer:
        return 0.0
    given = " ".join(answer.lower().split())
    return max((_character_score(given, " ".join(gold.lower().split())) for gold in accepted), default=0.0)


def evidence_ndcg(viewed: Sequence[Place], gold: frozenset[Place]) -> float | None:
    """nDCG of the pages in the order in which they were first seen: Σ 1/log2(rank + 1) over gold pages, over its best value.

    None for a question without gold pages.

    >>> evidence_ndcg([("a", 2), ("a", 1)], frozenset({("a", 1)}))
    0.6309297535714575
    """
    if not gold:
        return None
    gained = sum(1 / math.log2(rank + 1) for rank, page in enumerate(viewed, 1) if page in gold)
    return gained / sum(1 / math.log2(rank + 1) for rank in range(1, len(gold) + 1))


def judge(judged: float | None) -> float | None:
    return judged


def search_cost(searches: int, over_budget: int) -> float:
    """-1 for each search after the first, and for each beyond the budget."""
    return 0.0 - (max(0, searches - 1) + over_budget)


def repeated_query(repeats: int) -> float:
    """-1 for each query that had been asked before."""
    return 0.0 - repeats


def too_long(policy_tokens: int, limit: int = 1024, margin: int = 256) -> float:
    """0 up to `limit - margin` tokens, then falling linearly to -1 at `limit`.

    >>> [too_long(tokens) for tokens in (700, 896, 2000)]
    [0.0, -0.5, -1.0]
    """
    return 0.0 - min(1.0, max(0.0, (policy_tokens - (limit - margin)) / margin))


@dataclass(frozen=True)
class Term:
    """A reward and what it counts for."""

    reward: Reward
    weight: float = 1.0

    @property
    def name(self) -> str:
        return self.reward.__name__


@dataclass(frozen=True)
class RewardSum:
    """Weighted rewards.

    Raises:
        UserError: a reward has a parameter that is no fact of an `Outcome` and has no default.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        known = {field.name for field in fields(Outcome)}
        for term in self.terms:
            wanted = inspect.signature(term.reward).parameters.values()
            unknown = [p.name for p in wanted if p.name not in known and p.default is inspect.Parameter.empty]
            if unknown:
                raise UserError(f"The reward {term.name} asks for {unknown[0]}; it may ask for {', '.join(sorted(known))}.")

    @property
    def asks_who_is_right(self) -> bool:
        """Whether a right answer can earn more than a wrong one."""
        return any({"accepted", "judged"} & set(inspect.signature(term.reward).parameters) for term in self.terms)

    def parts(self, outcome: Outcome) -> dict[str, float | None]:
        """Each reward by name, unweighted; None for what cannot be given."""
        if outcome.failed:
            return {term.name: None for term in self.terms}
        return {term.name: _call(term.reward, outcome) for term in self.terms}

    def total(self, parts: Mapping[str, float | None]) -> float | None:
        """The weighted sum of what was given; None where nothing was."""
        given = [(term.weight, parts[term.name]) for term in self.terms]
        values = [weight * value for weight, value in given if value is not None]
        return sum(values) if values else None


def _call(reward: Reward, outcome: Outcome) -> float | None:
    wanted = inspect.signature(reward).parameters
    return reward(**{name: getattr(outcome, name) for name in wanted if name in Outcome.__dataclass_fields__})


# What to learn from in stage 1 (to search, in the format) and stage 2 (to answer).
PRESETS: Mapping[str, tuple[RewardSum, RewardSum]] = {
    "r1-searcher-paper": (
        RewardSum((Term(searched, 0.5), Term(format_kept, 0.5))),
        RewardSum((Term(answer_f1), Term(broken_tags, 2.0))),
    ),
    "r1-searcher-code": (
        RewardSum((Term(cover_or_not), Term(tags_balanced_and_searched, 0.5), Term(thought_and_answered, 0.5))),
        RewardSum((Term(answer_f1), Term(broken_answer, 2.0))),
    ),
    "vrag": (
        RewardSum((Term(format_kept, 0.5), Term(evidence_ndcg, 0.5))),
        RewardSum((Term(judge, 0.7), Term(format_kept, 0.1), Term(evidence_ndcg, 0.2))),
    ),
    "docvqa": (
        RewardSum((Term(searched, 0.3), Term(format_kept, 0.3), Term(evidence_ndcg, 0.4))),
        RewardSum((Term(answer_anls), Term(evidence_ndcg, 0.2), Term(broken_tags), Term(repeated_query, 0.1))),
    ),
}


# What `load_reward` knows without a module.
REWARDS: tuple[Reward, ...] = (
    searched,
    format_kept,
    tags_balanced_and_searched,
    thought_and_answered,
    cover_or_not,
    broken_tags,
    broken_answer,
    answer_f1,
    answer_em,
    answer_anls,
    answer_cover,
    answer_characters,
    evidence_ndcg,
    judge,
    search_cost,
    repeated_query,
    too_long,
)


def load_reward(name: str) -> Reward:
    """A reward of this file by name, or the user's own as `module:function`.

    Raises:
        UserError: there is no such function.
    """
    own = ", ".join(reward.__name__ for reward in REWARDS)
    module, _, function = name.rpartition(":")
    try:
        found: Any = getattr(importlib.import_module(module or __name__), function)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"There is no reward «{name}»; name one of {own}, or your own as module:function.") from None
    if not callable(found) or (not module and found not in REWARDS):
        raise UserError(f"«{name}» is no reward; name one of {own}, or your own as module:function.")
    return found


def _character_score(given: str, gold: str) -> float:
    weight = sum(map(_weight, gold))
    return max(0.0, 1 - _weighted_distance(given, gold) / weight) if weight else 0.0


def _weight(character: str) -> float:
    return 2.0 if character in _DOUBLE else 1.0


def _weighted_distance(a: str, b: str) -> float:
    """Edits from a to b; each costs what the heavier character weighs."""
    row = [0.0]
    for y in b:
        row.append(row[-1] + _weight(y))
    for x in a:
        diagonal, row[0] = row[0], row[0] + _weight(x)
        for j, y in enumerate(b, 1):
            change = 0.0 if x == y else max(_weight(x), _weight(y))
            diagonal, row[j] = row[j], min(row[j] + _weight(x), row[j - 1] + _weight(y), diagonal + change)
    return row[-1]
