"""Rollouts: conversations side by side, their turns given to the engine together and their searches to the retriever together.

Each conversation (`conversation`) pauses on its own. A rollout that goes wrong is data with a stop reason, not a crash. Left
out: rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from colsearcher.agent.conversation import Conversation, Lookup, Waits
from colsearcher.agent.engine import Engine, Sampling, Turn
from colsearcher.agent.protocol import Protocol
from colsearcher.agent.record import Budgets, OnEvent, Rollout, Task, ignore
from colsearcher.agent.retriever import Passage, Retriever
from colsearcher.agent.viewer import Viewer
from colsearcher.indexes.errors import ColSearcherError


def run_rollout(
    question: str,
    engine: Engine,
    retriever: Retriever,
    protocol: Protocol,
    sampling: Sampling | None = None,
    budgets: Budgets | None = None,
    on_event: OnEvent = ignore,
    cancelled: Callable[[], bool] = lambda: False,
    viewer: Viewer | None = None,
) -> Rollout:
    """Let the policy search and answer one question; see `run_rollouts`."""
    task = Task(question, sampling or Sampling(), on_event)
    ((_, rollout),) = run_rollouts([task], engine, retriever, protocol, budgets, viewer=viewer, cancelled=cancelled)
    return rollout


def run_rollouts(
    tasks: Iterable[Task],
    engine: Engine,
    retriever: Retriever,
    protocol: Protocol,
    budgets: Budgets | None = None,
    *,
    viewer: Viewer | None = None,
    in_flight: int = 64,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Rollout]]:
    """Let the policy search and answer many questions, side by side.

    What a rollout holds does not depend on what else is in flight, up to the rounding of the engine's arithmetic.

    Args:
        tasks: read as there is room for another.
        viewer: shows pages to a policy that sees, and parts of pages to any; without it documents are words.
        in_flight: how many conversations are open at once.
        cancelled: asked before each token; True ends every rollout with `StopReason.CANCELLED`.

    Yields:
        (number of the task, its rollout), in the order in which they end.
    """
    budgets = budgets or Budgets()
    waiting = enumerate(tasks)
    turns: dict[int, Turn] = {}
    lookups: dict[int, Lookup] = {}
    open_runs: dict[int, Waits[Rollout]] = {}
    ended: list[tuple[int, Rollout]] = []
    exhausted = False

    def go_on(number: int, answer: object = None) -> None:
        """Let a conversation go on until it waits again or ends."""
        conversation = open_runs[number]
        try:
            wanted = conversation.throw(answer) if isinstance(answer, Exception) else conversation.send(answer)
        except StopIteration as stopped:
            del open_runs[number]
            ended.append((number, stopped.value))
        else:
            if isinstance(wanted, Turn):
                turns[number] = wanted
            else:
                lookups[number] = wanted

    try:
        while True:
            while len(open_runs) < in_flight and not exhausted:
                begun = next(waiting, None)
                if begun is None:
                    exhausted = True
                    break
                number, task = begun
                open_runs[number] = Conversation(task, engine, viewer, protocol, budgets, cancelled).go()
                go_on(number)
            while lookups:
                asked, lookups = lookups, {}
                for number, found in _look_up(retriever, asked).items():
                    go_on(number, found)
            yield from ended
            ended.clear()
            if turns:
                engine.work(list(turns.values()))
                for number in [number for number, turn in turns.items() if turn.ended]:
                    del turns[number]
                    go_on(number)
            elif not open_runs and exhausted:
                return
    finally:
        for conversation in open_runs.values():
            conversation.close()


def _look_up(retriever: Retriever, asked: Mapping[int, Lookup]) -> dict[int, list[Passage] | ColSearcherError]:
    """The passages of every lookup, or why there are none; lookups of as many passages go to the retriever as one batch."""
    found: dict[int, list[Passage] | ColSearcherError] = {}
    for count in {lookup.count for lookup in asked.values()}:
        numbers = [number for number, lookup in asked.items() if lookup.count == count]
        try:
            ranked: Sequence[list[Passage] | ColSearcherError]
            ranked = retriever.search([asked[number].query for number in numbers], count)
        except ColSearcherError as problem:
            ranked = [problem] * len(numbers)
        found |= dict(zip(numbers, ranked, strict=True))
    return found
