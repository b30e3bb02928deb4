"""A language model that says while a policy is trained which of its answers are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from colsearcher.agent.engine import Engine
from colsearcher.agent.opened_policy import open_policy
from colsearcher.training.answer_judge import ask_judge, prompt_for, read_verdict
from colsearcher.training.policy.trainer import Judge
from colsearcher.training.question import Question

_IN_FLIGHT = 32


def open_judge(name: str, engine: str, tell: Callable[[str], None]) -> Judge:
    """Load a judge.

    Raises:
        UserError: see `load_engine`.
    """
    opened = open_policy(name, engine)
    tell(f"judge: {opened.told}")
    return judge_of(opened.engine)


def judge_of(engine: Engine) -> Judge:
    """A judge that an engine runs; it answers as `eval answers --judge` does."""

    def judge(answers: Sequence[tuple[Question, str]]) -> list[bool | None]:
        prompts = {n: prompt_for(question.text, question.answers, written) for n, (question, written) in enumerate(answers)}
        said = dict(ask_judge(prompts, engine, in_flight=_IN_FLIGHT))
        return [read_verdict(said[number]) for number in range(len(answers))]

    return judge
