"""What accompanies a stage while it is trained: metrics and guard, resting questions, checkpoints that go, traces."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from colsearcher.agent.answer import make_answer
from colsearcher.agent.policy import Policy
from colsearcher.agent.record import OnEvent, ignore
from colsearcher.agent.terminal import duration
from colsearcher.agent.trace import Trace
from colsearcher.training import processes
from colsearcher.training.policy.checkpoints import last_checkpoint, step_of
from colsearcher.training.policy.difficulty import Rest
from colsearcher.training.policy.guards import Collapse, Guard
from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.trainer import Scored
from colsearcher.training.question import Question
from colsearcher.training.run_folder import RunFolder

REST = "rest.json"
_TRACED = 4  # rollouts of a batch that are kept as traces
_KEPT = 5  # checkpoints of all weights
_TOLD = {
    "reward": "reward",
    "agent/search_rate": "searches",
    "agent/format_rate": "format",
    "agent/right_rate": "right",
    "entropy": "entropy",
    "agent/logprob_difference": "|Δlogp|",
}


class Watch(TrainerCallback):
    """Keeps the metrics, tells the progress, and stops at a collapse."""

    def __init__(self, run: RunFolder, recipe: Recipe, guard: Guard, tell: Callable[[str], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.collapse: Collapse | None = None
        self._run, self._recipe, self._guard, self._tell = run, recipe, guard, tell
        self._board = SummaryWriter(str(run.path / "tensorboard")) if processes.is_first() else None
        self._begun, self._first = time.monotonic(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun, self._first = time.monotonic(), int(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        step = int(state.global_step)
        row = {"step": step, **{name: float(value) for name, value in logs.items() if value is not None}}
        if "reward" in row:
            self.collapse = self.collapse or self._guard.saw(step, row)
        if self.collapse:
            control.should_training_stop = True
        if self._board is None:
            return
        self._run.log(row)
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, step)
        pace = (time.monotonic() - self._begun) / max(1, step - self._first)
        shown = "  ".join(f"{title} {row[name]:.3f}" for name, title in _TOLD.items() if name in row)
        left = duration(pace * (self._recipe.steps - step))
        self._tell(f"{self._recipe.stage} {step}/{self._recipe.steps}  {shown}  {pace:.1f} s a step, {left} left")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


class Rests(TrainerCallback):
    """Keeps with each checkpoint which questions rest."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not processes.is_first():
            return
        self._rest.save(Path(args.output_dir) / f"checkpoint-{state.global_step}" / REST)


class Rotation(TrainerCallback):
    """Of checkpoints of all weights keeps the last and those that a collapse would go back to."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self._folder, self._guard = folder, guard

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not processes.is_first():
            return
        there = sorted(self._folder.glob("checkpoint-*"), key=step_of)
        kept = {*there[-_KEPT:], *(last_checkpoint(self._folder, step) for step in self._guard.best_steps)}
        for path in there:
            if path not in kept:
                shutil.rmtree(path)


class Traces:
    """Keeps the first rollouts of every so manieth batch as traces that `replay` opens."""

    def __init__(self, folder: Path, recipe: Recipe, policy: Policy, weight: Callable[[str], float], done: int) -> None:
        self._folder, self._weight = folder, weight
        self._every, self._splits = recipe.trace_every, recipe.splits
        self._models = {"policy": f"{policy.name}@{policy.revision[:12]}"}
        self._open: dict[int, Trace] = {}
        for path in folder.glob("step-*.jsonl") if processes.is_first() else ():  # of steps that are done again
            if int(path.stem.split("-")[1]) >= done:
                path.unlink()

    def on_event_of(self, step: int, number: int, question: Question) -> OnEvent:
        if step // self._splits % self._every or number >= _TRACED or not processes.is_first():
            return ignore
        path = self._folder / f"step-{step:06d}-{number}.jsonl"
        with suppress(FileNotFoundError):
            path.unlink()
        trace = self._open[number] = Trace(path)
        trace.write("ask", {"question": question.text, "models": self._models, "settings": {"step": step}})
        return trace.write

    def on_rollouts(self, step: int, scored: Sequence[Scored]) -> None:
        for number, trace in self._open.items():
            rollout, outcome, parts = scored[number]
            answer = make_answer(rollout, self._weight).as_json()
            trace.write("answer", {**answer, "accepted": list(outcome.accepted), "rewards": json.loads(json.dumps(parts))})
            trace.close()
        self._open.clear()
