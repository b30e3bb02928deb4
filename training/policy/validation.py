"""Whether questions can be learned from: every gold answer has to earn what a right answer earns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from colsearcher.indexes.errors import UserError
from colsearcher.training.answer_metrics import normalise
from colsearcher.training.policy.rewards import LONGEST_ANSWER, Reward, answer_anls, answer_cover, answer_em, answer_f1
from colsearcher.training.question import Question

ANSWER_REWARDS: tuple[Reward, ...] = (answer_f1, answer_em, answer_cover, answer_anls)
_LISTED = 10


@dataclass(frozen=True)
class Findings:
    """Ids of questions by what is wrong with them.

    Attributes:
        unrewarded: `id: reward gives 0.5 to «answer»`; a policy that answers right would not be told so.
        asked_twice, held_out: by the words of the question; training leaves them out by itself.
        without_gold: no gold pages: rewards for evidence are None there.
        long: answers of more words than R1-Searcher's stage 2 allows.
    """

    unrewarded: list[str] = field(default_factory=list)
    asked_twice: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    without_gold: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Something has to be mended in the file."""
        return bool(self.unrewarded)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self, questions: int) -> list[str]:
        told = [
            ("gold answers that do not earn 1.0", self.unrewarded),
            ("asked more than once, kept once", self.asked_twice),
            ("held out, left out of training", self.held_out),
            ("without gold pages", self.without_gold),
            (f"answers of more than {LONGEST_ANSWER} words", self.long),
        ]
        lines = [f"{questions:,} questions"]
        for title, ids in told:
            lines.append(f"{len(ids):>8,}  {title}")
            lines += [f"            {name}" for name in ids[:_LISTED]] if ids is self.unrewarded else []
        return lines


def validate(questions: Sequence[Question], held_out: Sequence[Question], rewards: Sequence[Reward]) -> Findings:
    """Check every question.

    Args:
        rewards: of answers: they ask for `answer` or `accepted`.

    Raises:
        UserError: a reward asks for something else.
    """
    rewards_of = [_of_answers(reward) for reward in rewards]
    findings = Findings()
    not_learned = {tuple(normalise(question.text)) for question in held_out}
    seen: set[tuple[str, ...]] = set()
    for question in questions:
        words = tuple(normalise(question.text))
        if words in seen:
            findings.asked_twice.append(question.id)
        seen.add(words)
        if words in not_learned:
            findings.held_out.append(question.id)
        if not question.answerable:
            continue
        if not question.evidence:
            findings.without_gold.append(question.id)
        for answer in question.answers:
            for reward, earn in zip(rewards, rewards_of, strict=True):
                earned = earn(answer, question.answers)
                if earned != 1.0:
                    findings.unrewarded.append(f"{question.id}: {reward.__name__} gives {earned} to «{answer}»")
        if any(len(answer.split()) > LONGEST_ANSWER for answer in question.answers):
            findings.long.append(question.id)
    return findings


def _of_answers(reward: Reward) -> Callable[[str, Sequence[str]], float | None]:
    """The reward as a function of the answer and the accepted ones, of which it may ask for one alone."""
    parameters = inspect.signature(reward).parameters.values()
    more = [p.name for p in parameters if p.name not in ("answer", "accepted") and p.default is inspect.Parameter.empty]
    if more:
        raise UserError(
            f"The reward {reward.__name__} asks for {more[0]}, which no gold answer tells; name rewards of answers alone."
        )
    asked = {p.name for p in parameters}

    def earn(answer: str, accepted: Sequence[str]) -> float | None:
        return reward(**{name: fact for name, fact in (("answer", answer), ("accepted", accepted)) if name in asked})

    return earn
