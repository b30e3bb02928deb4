"""One question through the loop: rollout, checked answer, trace. What the command line, the demo and notebooks call."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colsearcher.agent.answer import Answer, make_answer
from colsearcher.agent.calibration import Calibration
from colsearcher.agent.engine import Engine, Sampling
from colsearcher.agent.protocol import Protocol
from colsearcher.agent.record import Budgets, OnEvent, Rollout, ignore
from colsearcher.agent.rollout import run_rollout
from colsearcher.agent.source import Source
from colsearcher.agent.trace import Trace
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.searcher import Searcher


@dataclass(frozen=True)
class Asked:
    """A question, the checked answer, how it came about, and the file that records it all."""

    question: str
    answer: Answer
    rollout: Rollout
    models: Mapping[str, str]
    trace: Path

    def as_json(self) -> dict[str, Any]:
        """The document of `ask --json`."""
        rollout, answer = self.rollout, self.answer
        written = sum(rollout.mask)
        return {
            "question": self.question,
            **answer.as_json(),
            "searches": [
                {"query": s.query, "pages": [str(page.address) for page in s.passages], "notice": s.notice}
                for s in rollout.searches
            ],
            "stop_reason": str(rollout.stop),
            "error": rollout.error,
            "usage": {
                "prompt_tokens": len(rollout.prompt_ids),
                "policy_tokens": written,
                "inserted_tokens": len(rollout.mask) - written,
                "searches": len(rollout.searches),
                "seconds": dict(rollout.timing_s),
            },
            "models": dict(self.models),
            "trace": str(self.trace),
        }


def ask(
    question: str,
    source: Source | Searcher,
    engine: Engine,
    protocol: Protocol,
    *,
    budgets: Budgets | None = None,
    sampling: Sampling | None = None,
    trace: Path | None = None,
    on_event: OnEvent = ignore,
    cancelled: Callable[[], bool] = lambda: False,
    calibration: Calibration | None = None,
) -> Asked:
    """Let the policy search and answer.

    Args:
        source: what it searches; an open index may stand for itself.
        trace: the file to write; by default a new one in the `traces` folder of the source.
        on_event: called with every event that goes into the trace.
        cancelled: asked before each token; True ends the rollout.
        calibration: decides which answers are given; see `make_answer`.

    Raises:
        UserError: the question or the index is empty, or the trace cannot be written.
    """
    if not question.strip():
        raise UserError("The question is empty; ask with at least one word.")
    source = Source.of(source) if isinstance(source, Searcher) else source
    if source.searcher is not None:
        source.searcher.index.require_pages()
    budgets, sampling = budgets or Budgets(), sampling or Sampling()
    models = {"policy": f"{engine.name}@{engine.revision[:12]}", **source.models}
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}.jsonl"
    path = trace or source.folder / "traces" / name
    with Trace(path) as record:

        def both(kind: str, data: Mapping[str, object]) -> None:
            record.write(kind, data)
            on_event(kind, data)

        settings = {
            "protocol": protocol.variant,
            "source": str(source.place),
            "budgets": vars(budgets),
            "sampling": vars(sampling),
        }
        both("ask", {"question": question, "models": models, "settings": settings})
        rollout = run_rollout(
            question, engine, source.retriever, protocol, sampling, budgets, both, cancelled, viewer=source.viewer
        )
        answer = make_answer(rollout, source.weight, calibration)
        both("answer", answer.as_json())
    return Asked(question, answer, rollout, models, path)
