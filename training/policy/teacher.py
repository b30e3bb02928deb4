"""Rollouts that a teacher writes: the same loop, the same tokens, with texts that are known beforehand in place of sampling.

What a policy is shown as an example is thus exactly what it will meet: real searches, real documents, the environment's own
words, and a mask that says which tokens to learn. Left out: what a good text is (`cold_start`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from colsearcher.agent.engine import Engine, Session, StopReason, Turn
from colsearcher.agent.pictures import Picture
from colsearcher.agent.protocol import Protocol as SpokenProtocol
from colsearcher.agent.record import Budgets, Rollout, Task
from colsearcher.agent.retriever import Retriever
from colsearcher.agent.rollout import run_rollouts


class Teacher(Protocol):
    """Writes one conversation."""

    @property
    def question(self) -> str: ...

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        """What happens in the conversation; see `agent.trace`."""
        ...

    def turn(self) -> str:
        """What to write next, up to the tag that ends the turn; empty to give up."""
        ...


class TaughtEngine:
    """An engine that writes what teachers say, in the tokens of another engine's policy. Sessions belong to the teachers in
    the order in which they start."""

    def __init__(self, base: Engine, teachers: Iterator[Teacher]) -> None:
        self.name, self.revision = base.name, base.revision
        self._base, self._teachers = base, teachers

    @property
    def exact(self) -> bool:
        return self._base.exact

    @property
    def sees(self) -> bool:
        return self._base.sees

    def encode(self, text: str) -> list[int]:
        return self._base.encode(text)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return self._base.encode_chat(messages)

    def decode(self, ids: Sequence[int]) -> str:
        return self._base.decode(ids)

    def picture(self, image: object, max_tokens: int) -> tuple[list[int], Picture]:
        return self._base.picture(image, max_tokens)  # type: ignore[arg-type]

    def start(self, prompt_ids: Sequence[int]) -> Session:
        return _Taught(self._base.start(prompt_ids), next(self._teachers))

    def work(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            assert isinstance(turn.session, _Taught)
            text = turn.session.teacher.turn()
            ids = self.encode(text)
            if not text or len(ids) > min(turn.sampling.max_tokens, turn.session.room):
                turn.end(StopReason.TOKEN_BUDGET if text else StopReason.EOS)
                continue
            turn.session.append(ids)
            for token in ids:
                turn.add(token, 0.0)
            matched = next((stop for stop in turn.stop if text.endswith(stop)), None)
            turn.end(StopReason.STOP_STRING if matched else StopReason.EOS, matched)


class _Taught:
    """A session of the base engine that nothing is sampled in."""

    def __init__(self, base: Session, teacher: Teacher) -> None:
        self._base, self.teacher = base, teacher

    @property
    def ids(self) -> tuple[int, ...]:
        return self._base.ids

    @property
    def room(self) -> int:
        return self._base.room

    def append(self, ids: Sequence[int], pictures: Sequence[Picture] = ()) -> None:
        self._base.append(ids, pictures)

    def close(self) -> None:
        self._base.close()


def taught_rollouts(
    teachers: Iterable[Teacher],
    engine: Engine,
    retriever: Retriever,
    protocol: SpokenProtocol,
    budgets: Budgets,
) -> Iterator[tuple[Teacher, Rollout]]:
    """Each teacher's conversation, as it ends."""
    known = list(teachers)
    tasks = [Task(teacher.question, on_event=teacher.event) for teacher in known]
    done = run_rollouts(tasks, TaughtEngine(engine, iter(known)), retriever, protocol, budgets)
    for number, rollout in done:
        yield known[number], rollout
