"""A stage from its recipe to its model: evaluated before and after, watched by a guard, in a run folder that can be resumed.

    runs/NAME/retrieval/   config.json env.json metrics.jsonl model/ checkpoints/ traces/ tensorboard/ before/ after/

Left out: what a stage is (`recipe`), its loss (`trainer`), when it has collapsed (`guards`), curves (`report`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PrinterCallback
from trl import GRPOConfig

from colsearcher.agent.engine import Sampling
from colsearcher.agent.policy import Device, Policy
from colsearcher.agent.protocol import Protocol
from colsearcher.agent.source import Source
from colsearcher.agent.terminal import duration
from colsearcher.indexes.errors import UserError
from colsearcher.training import processes
from colsearcher.training.answer_evaluation import AnswerRun, evaluate_answers, read_records, summarise_answers
from colsearcher.training.policy.adapters import save_policy, trainable
from colsearcher.training.policy.algorithms import ALGORITHMS
from colsearcher.training.policy.callbacks import REST, Rests, Rotation, Traces, Watch
from colsearcher.training.policy.checkpoints import last_checkpoint, step_of
from colsearcher.training.policy.difficulty import Difficulty, Rest, not_too_hard
from colsearcher.training.policy.guards import Collapse, guard_of
from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.samplers import Sampler, TransformersSampler
from colsearcher.training.policy.trainer import Judge, PolicyTrainer, World
from colsearcher.training.question import Question
from colsearcher.training.run_folder import RunFolder

_BEGINNING = "beginning"


@dataclass(frozen=True)
class StageData:
    """What a stage learns from and is measured on.

    Attributes:
        held_out: asked before and after; none for no evaluation.
        held_out_source: what they search.
        judge: asked for the reward `judge`.
        difficulty: from `read_difficulty`; each stage leaves out what its recipe calls too hard.
    """

    questions: Sequence[Question]
    source: Source
    held_out: Sequence[Question]
    held_out_source: Source
    protocol: Protocol
    judge: Judge | None = None
    difficulty: Mapping[str, Difficulty] | None = None


@dataclass(frozen=True)
class StageResult:
    """Attributes:
    before, after: summaries of the evaluations, empty without held-out questions.
    collapse: why the guard stopped it, None where it ran to its end.
    """

    model: Path
    steps: int
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    collapse: str | None


def run_stage(
    recipe: Recipe,
    start: str,
    data: StageData,
    folder: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    tell: Callable[[str], None],
    known_before: Path | None = None,
    device: Device = "auto",
    sampler: Sampler | None = None,
) -> StageResult:
    """Do a stage, or what is left of it.

    Args:
        start: the policy to begin with, as `load_policy` takes it; an adapter is trained further.
        config: kept beside the recipe; a run is resumed only with the same.
        known_before: an evaluation of `start` on the same questions, so that it need not be done again.
        device: where to train.
        sampler: what samples; transformers on the same device if left out.

    Raises:
        UserError: the folder holds a run of another configuration, or one and `resume` is not set.
        ModelProblem: the policy cannot be loaded.
    """
    run = RunFolder(folder)
    if processes.is_first():
        run.start({**config, "policy": start, "recipe": asdict(recipe)}, {}, resume=resume)
        if known_before is not None and not (folder / "before").exists() and data.held_out:
            shutil.copytree(known_before, folder / "before")
    processes.wait()
    sampler = sampler or TransformersSampler(device)
    before = _evaluation(folder / "before", start, data, recipe, sampler, tell)
    if not run.model.is_dir():
        _train(recipe, start, data, run, device, sampler, tell)
    after = _evaluation(folder / "after", str(run.model), data, recipe, sampler, tell)
    rows = run.rows()
    collapse = next((row["collapse"] for row in rows if "collapse" in row), None)
    steps = max((row["step"] for row in rows if "loss" in row), default=0)
    return StageResult(run.model, steps, before, after, collapse)


def _evaluation(
    folder: Path, policy: str, data: StageData, recipe: Recipe, sampler: Sampler, tell: Callable[[str], None]
) -> Mapping[str, float | None]:
    """The summary of a greedy run over the held-out questions; only what is missing is asked, by the first process."""
    if not data.held_out:
        return {}
    if not processes.is_first():
        processes.wait()
        return summarise_answers(read_records(folder))
    run = AnswerRun(folder, {"policy": policy, "questions": len(data.held_out), "protocol": data.protocol.variant})
    if len(run.records) < len(data.held_out):
        begun = time.monotonic()
        engine = sampler.of_stored(policy)

        def on_progress(done: int, all: int) -> None:
            if done and (done % 25 == 0 or done == all):
                tell(f"{folder.name}: {done} of {all} held-out questions, {duration(time.monotonic() - begun)}")

        evaluate_answers(
            data.held_out,
            run,
            engine,
            data.held_out_source,
            data.protocol,
            budgets=recipe.budgets(),
            sampling=Sampling(max_tokens=recipe.turn_tokens),
            in_flight=recipe.in_flight,
            on_progress=on_progress,
        )
    processes.wait()
    return summarise_answers(run.records)


def _train(
    recipe: Recipe,
    start: str,
    data: StageData,
    run: RunFolder,
    device: Device,
    sampler: Sampler,
    tell: Callable[[str], None],
) -> None:
    policy = trainable(start, recipe.lora_rank, device, recipe.seed)
    tell(policy.describe())
    world = World(
        {question.id: question for question in not_too_hard(data.questions, data.difficulty, recipe.hardest)},
        lambda question: data.source.retriever,
        data.protocol,
        recipe.reward_sum(),
        recipe.budgets(),
        data.source.viewer if data.protocol.looks else None,
        recipe.pages_from,
        recipe.in_flight,
        data.judge,
    )
    train_in(world, policy, recipe, run, tell, weight=data.source.weight, sampler=sampler)
    if processes.is_first():
        save_policy(policy, run.model)
    processes.wait()


def train_in(
    world: World,
    policy: Policy,
    recipe: Recipe,
    run: RunFolder,
    tell: Callable[[str], None],
    *,
    weight: Callable[[str], float] = lambda term: 1.0,
    mask_documents: bool = True,
    sampler: Sampler | None = None,
) -> None:
    """Train a policy in a world until the recipe's steps are done or its guard calls a collapse; what a killed run did is not
    done again. Afterwards the policy has the weights to keep."""
    checkpoints = run.path / "checkpoints"
    last = last_checkpoint(checkpoints)
    done = step_of(last) if last else 0
    if processes.is_first():
        run.keep_steps(done)
    processes.wait()
    guard = guard_of(recipe, world.rewards)
    for row in run.rows():
        if "reward" in row:
            guard.saw(row["step"], row)
    watch = Watch(run, recipe, guard, tell)
    rest = Rest(list(world.questions)) if recipe.rest else None
    if last and rest and (last / REST).is_file():
        rest.load(last / REST)
    traces = Traces(run.path / "traces", recipe, policy, weight, done)
    beginning = checkpoints / _BEGINNING
    if recipe.kl and not isinstance(policy.model, PeftModel):
        if processes.is_first() and not beginning.is_dir():
            policy.model.save_pretrained(beginning.with_suffix(".new"))
            beginning.with_suffix(".new").rename(beginning)
        processes.wait()
        policy.model.config._name_or_path = str(beginning)  # from where TRL takes what the policy is kept near to
    engine, renew = (sampler or TransformersSampler()).of_trained(policy)
    trainer = PolicyTrainer(
        policy.model,
        policy.tokenizer,
        engine,
        renew,
        world,
        ALGORITHMS[recipe.algorithm],
        grpo_config(recipe, checkpoints, policy),
        rest=rest,
        on_event_of=traces.on_event_of,
        on_rollouts=traces.on_rollouts,
        mask_documents=mask_documents,
        done=done,
    )
    trainer.remove_callback(PrinterCallback)  # it writes to stdout
    trainer.add_callback(watch)
    if rest is not None:
        trainer.add_callback(Rests(rest))
    if not recipe.lora_rank:
        trainer.add_callback(Rotation(checkpoints, guard))
    if last:
        tell(f"resumed after step {done} of {recipe.steps}")
    begun = beginning.is_dir()
    processes.wait()
    if not begun:
        trainer.save_model(str(beginning))
    if last and done >= recipe.steps:
        trainer.restore(last)
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    watch.close()
    if watch.collapse is not None:
        back = _roll_back(trainer, checkpoints, watch.collapse)
        if processes.is_first():
            run.log({"collapse": watch.collapse.reason, "rolled_back_to": back})
        tell(f"stopped at step {watch.collapse.step}: {watch.collapse.reason}; the weights are those of step {back}")
    policy.model.eval()


def grpo_config(recipe: Recipe, folder: Path, policy: Policy) -> GRPOConfig:
    """A recipe in TRL's words."""
    settings = {
        "learning_rate": recipe.lr,
        "warmup_steps": recipe.warmup,
        "lr_scheduler_type": "constant_with_warmup" if recipe.schedule == "constant" else "cosine",
        "beta": recipe.kl,
        "temperature": recipe.temperature,
        "max_grad_norm": recipe.max_grad_norm,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        **ALGORITHMS[recipe.algorithm].settings,
    }
    passes, left = divmod(recipe.rollouts, recipe.at_once * processes.count())
    if left or passes % recipe.splits:
        raise UserError(
            f"{recipe.rollouts} rollouts cannot be split among {processes.count()} processes in passes of {recipe.at_once}; "
            "change prompts, group or at_once with --set."
        )
    if (recipe.rest or ALGORITHMS[recipe.algorithm].dynamic) and recipe.prompts % processes.count():
        raise UserError(
            f"{recipe.prompts} questions cannot be shared out among {processes.count()} processes, and to let them rest or to "
            "draw others a process needs all rollouts of its own; change prompts with --set."
        )
    return GRPOConfig(
        str(folder),
        seed=recipe.seed,
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.at_once,
        gradient_accumulation_steps=passes // recipe.splits,
        steps_per_generation=passes,
        num_generations=recipe.group,
        max_completion_length=recipe.total_tokens + recipe.turn_tokens,
        # A checkpoint in the middle of a batch of rollouts would lose the rest of it.
        save_steps=-(-recipe.save_every // recipe.splits) * recipe.splits,
        logging_steps=1,
        report_to=[],
        bf16=policy.dtype == "bfloat16",
        disable_tqdm=True,
        use_cpu=policy.device == "cpu",
        **settings,
    )


def _roll_back(trainer: PolicyTrainer, checkpoints: Path, collapse: Collapse) -> int:
    """Give the model the weights of the last checkpoint before the fall, or those that it began with. Returns their step."""
    good = last_checkpoint(checkpoints, collapse.good)
    trainer.restore(good or checkpoints / _BEGINNING)
    return step_of(good) if good else 0
