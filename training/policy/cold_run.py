"""A cold start from its questions to its model: examples, training, the saved policy, in a run folder that can be resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colsearcher.agent.engine import Engine
from colsearcher.agent.policy import Policy
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.record import Budgets
from colsearcher.agent.source import Source
from colsearcher.agent.terminal import duration
from colsearcher.indexes.errors import UserError
from colsearcher.training import processes
from colsearcher.training.answer_metrics import normalise
from colsearcher.training.policy.adapters import save_policy
from colsearcher.training.policy.checkpoints import last_checkpoint, step_of
from colsearcher.training.policy.cold_start import Example, examples
from colsearcher.training.policy.sft import Cold, read_examples, sft_trainer, write_examples
from colsearcher.training.question import Question
from colsearcher.training.run_folder import RunFolder

_EXAMPLES, _CHECKPOINTS = "examples.jsonl", "checkpoints"
_TELL_EVERY = 50  # conversations


@dataclass(frozen=True)
class ColdRun:
    """What to do.

    Attributes:
        lora_rank: of the adapters, 0 where all weights are trained.
        limit: at most so many examples.
    """

    recipe: Cold
    budgets: Budgets
    lora_rank: int = 16
    limit: int | None = None


def without_asked(questions: Sequence[Question], held_out: Sequence[Question]) -> list[Question]:
    """The questions, each once, less those whose words are also those of a held-out one.

    >>> a, b = (Question(str(n), text, ("x",), frozenset()) for n, text in enumerate(["Who is Ada?", "who is ada"]))
    >>> len(without_asked([a, b], [])), len(without_asked([a], [b]))
    (1, 0)
    """
    seen = {tuple(normalise(question.text)) for question in held_out}
    kept = []
    for question in questions:
        words = tuple(normalise(question.text))
        if words not in seen:
            seen.add(words)
            kept.append(question)
    return kept


def make_examples(
    questions: Sequence[Question], source: Source, engine: Engine, budgets: Budgets, tell: Callable[[str], None]
) -> list[Example]:
    """Examples about the questions that have gold pages in the source: in words, also for a policy that sees, which meets
    pictures in its stages.

    Args:
        tell: is told how far it is after every 50 conversations and after the last.

    Raises:
        UserError: the source has no words of its own, or no question could be made an example.
    """
    if source.searcher is None:
        raise UserError("A cold start needs the gold pages' words; name an index or a file of passages, not a search service.")
    index = source.searcher.index
    known = {(record.document, page) for record in index.documents() for page in range(1, record.pages + 1)}
    asked = [q for q in questions if q.evidence and all((place.document, place.page) in known for place in q.evidence)]
    texts = {str(place): index.page(place.document, place.page).text for q in asked for place in q.evidence}
    started = time.monotonic()

    def on_progress(done: int, all: int, kept: int) -> None:
        if done % _TELL_EVERY and done < all:
            return
        left = duration((time.monotonic() - started) / done * (all - done))
        tell(f"{done:,}/{all:,} conversations, {kept:,} kept" + (f", about {left} left" if done < all else ""))

    found = list(examples(asked, texts, engine, source.retriever, REASONING, budgets, on_progress))
    if not found:
        raise UserError(
            f"None of the {len(questions)} questions became an example: their gold pages are not in {source.place}, or no "
            "search found them."
        )
    return found


def cold_start(
    asked: ColdRun,
    config: Mapping[str, Any],
    policy: Policy,
    folder: Path,
    make: Callable[[], list[Example]],
    *,
    resume: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Do the run, or what is left of it.

    Args:
        policy: from `trainable`.
        make: makes the examples; not called where they were made before.

    Returns `run`, `model`, `examples`, `steps` and the losses of the first and the last step.
    """
    run = RunFolder(folder)
    path = folder / _EXAMPLES
    if processes.is_first():
        run.start({**config, **asdict(asked)}, {"policy": policy.describe()}, resume=resume)
        if not path.is_file():
            tell("writing examples")
            unfinished = path.with_suffix(".new")
            write_examples(unfinished, make())
            unfinished.replace(path)
    processes.wait()
    learned = read_examples(path)[: asked.limit]
    tokens = sum(len(example.prompt_ids) + len(example.ids) for example in learned)
    tell(f"{len(learned):,} examples, {tokens:,} tokens, {sum(sum(example.mask) for example in learned):,} of them to learn")
    if not run.model.is_dir():
        _train(asked, policy, learned, run, tell)
    losses = [row["loss"] for row in run.rows() if "loss" in row]
    return {
        "run": str(folder),
        "model": str(run.model),
        "examples": len(learned),
        "steps": len(losses),
        "first_loss": losses[0],
        "loss": losses[-1],
    }


def _train(asked: ColdRun, policy: Policy, learned: Sequence[Example], run: RunFolder, tell: Callable[[str], None]) -> None:
    from transformers import PrinterCallback, TrainerCallback

    class Log(TrainerCallback):
        """Keeps what TRL tells in the run's metrics."""

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if logs and "loss" in logs and processes.is_first():
                row = {"step": int(state.global_step), **{name: value for name, value in logs.items() if value is not None}}
                run.log(json.loads(json.dumps(row, default=float)))
                if state.global_step % 10 == 0 or state.global_step in (1, state.max_steps):
                    tell(f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}")

    checkpoints = run.path / _CHECKPOINTS
    trainer = sft_trainer(policy.model, policy.tokenizer, learned, asked.recipe, checkpoints)
    trainer.remove_callback(PrinterCallback)  # it writes to stdout
    trainer.add_callback(Log())
    last = last_checkpoint(checkpoints)
    if processes.is_first():
        run.keep_steps(step_of(last) if last else 0)
    processes.wait()
    if last:
        tell(f"resumed after step {step_of(last)}")
    if last and 0 < asked.recipe.max_steps <= step_of(last):
        trainer._load_from_checkpoint(str(last))  # killed between its last step and its end
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if processes.is_first():
        save_policy(policy, run.model)
    processes.wait()
