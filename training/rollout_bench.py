"""Rollouts per second with many in flight: engines beside each other, on the same questions, in one run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from colsearcher.agent.engine import Sampling
from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT, NATURAL
from colsearcher.agent.record import Budgets, Rollout, Task
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.served_engine import ServedEngine
from colsearcher.agent.terminal import show, show_json, tell
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.agent.engine import Engine
    from colsearcher.agent.protocol import Protocol
    from colsearcher.agent.retriever import Retriever
    from colsearcher.retrieval.searcher import Searcher
    from colsearcher.training.question import Question


@dataclass(frozen=True)
class RolloutTimes:
    """Attributes:
    engine: the name that `load_engine` takes.
    seconds: from the first rollout's beginning to the last one's end, searches included.
    sampled: tokens that the policy wrote.
    prompted: tokens of prompts that the prefix cache was asked for; cached: those found; None where nothing is told of it.
    same: share of rollouts whose ids are those of the first engine.
    failed: rollouts that ended by a failure of the engine.
    """

    engine: str
    rollouts: int
    seconds: float
    sampled: int
    prompted: int | None
    cached: int | None
    same: float
    failed: int

    @property
    def per_second(self) -> float:
        return self.rollouts / self.seconds


def time_rollouts(
    name: str,
    engine: Engine,
    tasks: Sequence[Task],
    retriever: Retriever,
    protocol: Protocol,
    *,
    in_flight: int,
    compared: list[Rollout],
) -> RolloutTimes:
    """Time an engine, after one rollout that is not counted.

    Args:
        compared: what the first engine wrote; empty for it, and filled by it.
    """
    budgets = Budgets(seconds=3600.0)
    for _ in run_rollouts(tasks[:1], engine, retriever, protocol, budgets):
        pass
    before = engine.prefix_cache() if isinstance(engine, ServedEngine) else None
    started = time.perf_counter()
    ended = dict(run_rollouts(tasks, engine, retriever, protocol, budgets, in_flight=in_flight))
    seconds = time.perf_counter() - started
    after = engine.prefix_cache() if isinstance(engine, ServedEngine) else None
    cache = after - before if after is not None and before is not None else None
    rollouts = [ended[number] for number in range(len(tasks))]
    if not compared:
        compared += rollouts
    return RolloutTimes(
        name,
        len(rollouts),
        seconds,
        sum(sum(rollout.mask) for rollout in rollouts),
        None if cache is None else cache.queries,
        None if cache is None else cache.hits,
        sum(one.ids == other.ids for one, other in zip(rollouts, compared, strict=True)) / len(rollouts),
        sum(rollout.error is not None for rollout in rollouts),
    )


@dataclass(frozen=True)
class BenchRollouts:
    """Rollouts per second, many in flight: engines beside each other on the same questions, with searches between the turns.
    Give --engine once for each; a vLLM server is started before, with `vllm serve`. Its prefix cache says how much of the
    prompts it had computed already."""

    qa: Path = option("JSONL of questions; with their own paragraphs, or about --index", metavar="QA.jsonl")
    engine: tuple[str, ...] = option(
        "transformers, vllm, http://HOST:PORT (a vLLM server) or openai:MODEL@https://HOST/v1; may be given again",
        default=(),
        metavar="NAME",
    )
    index: Path | None = option("the index folder", default=None, metavar="DIR")
    policy: str = option("embedded, a model folder or a hub id", default="embedded")
    in_flight: int = option("rollouts at a time", default=64, metavar="N", within=COUNT)
    limit: int = option("only the first so many questions", default=64, metavar="N", within=COUNT)
    temperature: float = option("0 is greedy", default=0.0, within=NATURAL)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.agent.source import PageRetriever
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa)
        sampling = Sampling(temperature=self.temperature)
        tasks = [Task(question.text, sampling) for question in questions[: self.limit]]
        rows: list[RolloutTimes] = []
        first: list[Rollout] = []
        with self._searcher(questions) as searcher:
            retriever = PageRetriever(searcher)
            for name in self.engine or ("transformers",):
                policy = open_policy(self.policy, name)
                tell(f"{policy.told}; embedder {searcher.embedder.name} on {searcher.embedder.device}")
                rows.append(
                    time_rollouts(
                        name, policy.engine, tasks, retriever, policy.protocol, in_flight=self.in_flight, compared=first
                    )
                )
                tell(_line(rows[-1], rows[0]))
        if self.json:
            shown = [asdict(row) | {"rollouts_per_s": round(row.per_second, 4)} for row in rows]
            show_json({"rows": shown, "in_flight": self.in_flight, "questions": len(tasks)})
            return 0
        for row in rows:
            show(_line(row, rows[0]))
        return 0

    def _searcher(self, questions: Sequence[Question]) -> AbstractContextManager[Searcher]:
        from colsearcher.retrieval.embedder import load_embedder
        from colsearcher.retrieval.searcher import Searcher
        from colsearcher.training.retrieval_evaluation import context_searcher

        if self.index is not None:
            return Searcher.open(self.index)
        if not all(question.context for question in questions):
            raise UserError(f"The questions of {self.qa} are about an index; name it with --index DIR.")
        return context_searcher(questions, load_embedder())


def _line(row: RolloutTimes, first: RolloutTimes) -> str:
    text = f"{row.engine:<28}{row.per_second:>8.3f} rollouts/s {row.per_second / first.per_second:>6.2f} x"
    text += f"{row.sampled / row.seconds:>9.1f} tokens/s {row.same:>6.0%} the same ids"
    if row.prompted and row.cached is not None:
        text += f"   prefix cache {row.cached:,} of {row.prompted:,} tokens"
    return text + (f"   {row.failed} failed" if row.failed else "")
