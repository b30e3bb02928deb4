"""TRL's GRPO over the agent's own rollouts: the tokens that are trained are the tokens that were sampled, to the id.

A thin subclass: TRL keeps its optimizer, its loss and its bookkeeping; rollouts come from `agent.rollout`, rewards from
`rewards`. What the environment wrote (documents, notices, tags of a guided protocol) is context and never loss, by the mask
that was kept while writing. Left out: stages, runs and their files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import GRPOConfig, GRPOTrainer

from colsearcher.agent.engine import Engine, Sampling
from colsearcher.agent.pictures import CutPicture, model_inputs
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.protocol import Protocol as SpokenProtocol
from colsearcher.agent.record import Budgets, OnEvent, Rollout, Task, ignore
from colsearcher.agent.retriever import Retriever
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.agent.viewer import Viewer
from colsearcher.indexes.errors import ModelProblem, UserError
from colsearcher.training.policy.algorithms import Algorithm
from colsearcher.training.policy.difficulty import Rest
from colsearcher.training.policy.outcome import Outcome, outcome_of
from colsearcher.training.policy.rewards import RewardSum, answer_cover
from colsearcher.training.policy.samplers import Renew
from colsearcher.training.question import Question

Scored = tuple[Rollout, Outcome, dict[str, float | None]]
Judge = Callable[[Sequence[tuple[Question, str]]], Sequence[bool | None]]

# Rounds in which groups that are all alike are drawn again.
_REDRAWN = 3


@dataclass(frozen=True)
class World:
    """What a policy is trained in.

    Attributes:
        questions: to learn from, by id.
        retriever_of: what answers the searches about a question.
        viewer: shows pages to a policy that sees.
        pages_from: before this step documents are words all the same, in the protocol for words.
        in_flight: conversations at once.
        judge: says of (question, answer) pairs whether each is right, None where it cannot tell; see `Outcome.judged`.
    """

    questions: dict[str, Question]
    retriever_of: Callable[[Question], Retriever]
    protocol: SpokenProtocol
    rewards: RewardSum
    budgets: Budgets = field(default_factory=Budgets)
    viewer: Viewer | None = None
    pages_from: int = 0
    in_flight: int = 64
    judge: Judge | None = None

    def shown_at(self, step: int) -> tuple[SpokenProtocol, Viewer | None]:
        """How the policy is spoken to at a step, and what shows it pages."""
        if self.protocol.looks and step < self.pages_from:
            return REASONING, None
        return self.protocol, self.viewer


class PolicyTrainer(GRPOTrainer):
    """GRPO on rollouts of a world. The seed of `args`, the step and the place in the batch fix every rollout.

    Args:
        engine, renew: from a `Sampler`.
        args: TRL's; weights of rewards are those of the world.
        rest: which questions rest because their rollouts were all alike; None asks each in its turn.
        on_event_of: who is told of the events of a rollout, by step, its number in the batch and its question.
        on_rollouts: told of every batch as it was drawn first: step, its rollouts with outcomes and reward parts.
        done: steps that a run which is resumed has behind it.
        mask_documents: False trains on what the environment wrote, too; for showing what that does.
        mismatch_limit: the largest mean |Δlogp| a token between sampling and training that is believed.

    Raises:
        ModelProblem: the engine does not say which tokens it sampled, or others than the model says.
        UserError: the engine needs whole weights, and they are spread over processes.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        engine: Engine,
        renew: Renew,
        world: World,
        algorithm: Algorithm,
        args: GRPOConfig,
        *,
        rest: Rest | None = None,
        on_event_of: Callable[[int, int, Question], OnEvent] = lambda step, number, question: ignore,
        on_rollouts: Callable[[int, Sequence[Scored]], None] = lambda step, scored: None,
        mask_documents: bool = True,
        mismatch_limit: float = 0.5,
        done: int = 0,
        **more: Any,
    ) -> None:
        if not engine.exact:
            raise ModelProblem(f"{engine.name} does not say which tokens it sampled; train with transformers or vLLM.")
        self._engine, self._renew, self._world, self._algorithm = engine, renew, world, algorithm
        self._rest, self._on_event_of, self._on_rollouts = rest, on_event_of, on_rollouts
        self._mask_documents, self._mismatch_limit, self._done = mask_documents, mismatch_limit, done
        # Of the batch that is being made: what the model is given besides tokens, and the logprobs of sampling.
        self._pictures: dict[str, Any] = {}
        self._sampled: list[list[float]] = []
        terms = world.rewards.terms
        args.reward_weights = [term.weight for term in terms]
        super().__init__(
            model=model,
            reward_funcs=[_column(term.name) for term in terms],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": list(world.questions)}),
            processing_class=tokenizer,
            **more,
        )
        if self._is_spread and isinstance(engine, TransformersEngine):
            raise UserError(
                "FSDP and ZeRO-3 leave no process with whole weights to sample from; name a vLLM with --engine, or start with "
                "plain data parallelism or ZeRO-2."
            )
        self._closing = int(self._tokenizer.eos_token_id)
        # A model that sees works out positions from the tokens that stand for pictures.
        self._picture_token = getattr(model.config, "image_token_id", None)

    @property
    def _is_spread(self) -> bool:
        """Whether no process has all weights."""
        return bool(self.is_fsdp_enabled or (self.is_deepspeed_enabled and is_deepspeed_zero3_enabled()))

    def restore(self, folder: Path) -> None:
        """Give the model the weights of a checkpoint."""
        self._load_from_checkpoint(str(folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """transformers' own, but for adapters: beside a reference adapter, as KL needs one, it would load that one alone."""
        policy = model if model is not None else self._policy
        if not isinstance(policy, PeftModel) or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        weights = load_file(Path(resume_from_checkpoint) / "adapter_model.safetensors")
        set_peft_model_state_dict(policy, weights, adapter_name="default")

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """TRL's, which draws another order of the questions in each pass over them; the passes that are done are drawn, too, so
        that a run that is resumed in a later one goes on with its order."""
        sampler: Any = super()._get_train_sampler(dataset)
        args: Any = self.args
        batches = len(self._world.questions) // sampler.batch_size
        steps = batches * args.steps_per_generation // args.gradient_accumulation_steps
        for _ in range(self._done // steps if steps else 0):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
        return sampler

    @property
    def _policy(self) -> torch.nn.Module:
        assert self.model is not None
        return self.model

    # Rollouts.

    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        """In place of TRL's: a prompt is the id of a question. Returns what TRL's returns."""
        policy = self._policy
        training = policy.training
        group = self.num_generations if training else self.num_generations_eval
        policy.eval()
        self._renew(self.save_model)
        try:
            scored = self._rollouts(prompts, int(group or 1))
        finally:
            policy.train(training)
        ids, masks, logprobs = [], [], []
        for rollout, _, _ in scored:
            if not len(rollout.ids) == len(rollout.mask) == len(rollout.logprobs):
                raise ModelProblem("A rollout's ids, mask and logprobs have different lengths; its engine is at fault.")
            # The end that TRL looks for; nobody sampled it, so it is context.
            ids.append([*rollout.ids, self._closing])
            masks.append([*(rollout.mask if self._mask_documents else [1] * len(rollout.ids)), 0])
            logprobs.append([*rollout.logprobs, 0.0])
        self._count(scored)
        self._sampled = logprobs
        shown = _pictures([rollout for rollout, _, _ in scored])
        device = self.accelerator.device
        self._pictures = {name: own.to(device) if isinstance(own, torch.Tensor) else own for name, own in shown.items()}
        extra = {"parts": [parts for _, _, parts in scored]}
        texts = [rollout.text for rollout, _, _ in scored]
        prompt_ids = [list(rollout.prompt_ids) for rollout, _, _ in scored]
        return prompt_ids, ids, masks, texts, logprobs, extra, None, []

    def _rollouts(self, ids: Sequence[str], group: int) -> list[Scored]:
        """A rollout for each id; those of one question stand together."""
        if self._rest is not None and self._policy.training:
            asked = self._rest.instead(ids[::group], int(self.state.global_step), int(self.args.seed))
            ids = [name for name in asked for _ in range(group)]
        questions = [self._world.questions[name] for name in ids]
        scored = self._play(questions, 0)
        self._on_rollouts(int(self.state.global_step), list(scored))
        if self._rest is not None:
            alike = [(ids[start], _alike(scored[start : start + group], self._world)) for start in range(0, len(scored), group)]
            for name, teaches_nothing in gather_object(alike):
                self._rest.saw(name, int(self.state.global_step), teaches_nothing)
        if not (self._algorithm.dynamic and group > 1):
            return scored
        names = list(self._world.questions)
        for turn in range(1, _REDRAWN + 1):
            starts = [start for start in range(0, len(scored), group) if _alike(scored[start : start + group], self._world)]
            if not starts:
                break
            step = int(self.state.global_step) * self.accelerator.num_processes + self.accelerator.process_index
            drawn = [names[(step * 7919 + turn * 104_729 + start) % len(names)] for start in starts]
            again = self._play([self._world.questions[name] for name in drawn for _ in range(group)], turn)
            for place, start in enumerate(starts):
                scored[start : start + group] = again[place * group : (place + 1) * group]
        return scored

    def _play(self, questions: Sequence[Question], turn: int) -> list[Scored]:
        world = self._world
        step = int(self.state.global_step)
        # Processes that share the work must not draw the same.
        base = ((int(self.args.seed) * 1_000_003 + step) * 8 + turn) * self.accelerator.num_processes
        base += self.accelerator.process_index
        found: dict[int, Rollout] = {}
        by_source: dict[int, list[int]] = {}
        retrievers: dict[int, Retriever] = {}
        for number, question in enumerate(questions):
            retriever = world.retriever_of(question)
            retrievers[id(retriever)] = retriever
            by_source.setdefault(id(retriever), []).append(number)
        protocol, viewer = world.shown_at(step)
        for source, numbers in by_source.items():
            tasks = [
                Task(
                    questions[number].text,
                    Sampling(
                        temperature=float(self.temperature),
                        seed=base * 65_536 + number,
                        max_tokens=world.budgets.turn_tokens,
                    ),
                    self._on_event_of(step, number, questions[number]) if turn == 0 else ignore,
                )
                for number in numbers
            ]
            done = run_rollouts(
                tasks,
                self._engine,
                retrievers[source],
                protocol,
                world.budgets,
                viewer=viewer,
                in_flight=world.in_flight,
            )
            for place, rollout in done:
                found[numbers[place]] = rollout
        outcomes = self._judged(questions, [outcome_of(found[number], question) for number, question in enumerate(questions)])
        return [(found[number], outcome, world.rewards.parts(outcome)) for number, outcome in enumerate(outcomes)]

    def _judged(self, questions: Sequence[Question], outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes with what the judge says of their answers; no answer is wrong without asking."""
        if self._world.judge is None:
            return outcomes
        asked = [number for number, outcome in enumerate(outcomes) if outcome.answer and not outcome.failed]
        said = self._world.judge([(questions[number], outcomes[number].answer or "") for number in asked])
        verdicts = dict(zip(asked, said, strict=True))
        told = [verdicts.get(number, False) for number in range(len(outcomes))]
        return [
            replace(outcome, judged=None if right is None else float(right))
            for outcome, right in zip(outcomes, told, strict=True)
        ]

    def _count(self, scored: Sequence[Scored]) -> None:
        """Metrics of the agent beside TRL's."""
        mode = "train" if self._policy.training else "eval"
        played = [outcome for _, outcome, _ in scored if not outcome.failed]
        right = [
            sum(rollout.logprobs) / sum(rollout.mask)
            for rollout, outcome, _ in scored
            if not outcome.failed and answer_cover(outcome.answer, outcome.accepted)
        ]
        sums = {
            "search_rate": sum(outcome.searches > 0 for outcome in played),
            "searches": sum(outcome.searches for outcome in played),
            "format_rate": sum(not outcome.parsed.problems for outcome in played),
            "answer_rate": sum(outcome.answer is not None for outcome in played),
            "right_rate": len(right),
        }
        # Over all processes, so that their guards see the same.
        *totals, all_played, all_right, likelihood, rollouts = self._summed(
            *sums.values(), len(played), len(right), sum(right), len(scored)
        )
        metrics = self._metrics[mode]
        metrics["agent/failed"].append(1 - all_played / rollouts)
        if all_played:
            for name, total in zip(sums, totals, strict=True):
                metrics[f"agent/{name}"].append(total / all_played)
        if all_right:  # how likely the policy found what it got right, in nats a token
            metrics["agent/right_logprob"].append(likelihood / all_right)

    def _summed(self, *values: float) -> list[float]:
        """Each value summed over all processes."""
        own = torch.tensor([values], dtype=torch.float64 if self.accelerator.device.type == "cpu" else torch.float32)
        gathered: torch.Tensor = self.accelerator.gather(own.to(self.accelerator.device))
        return gathered.sum(0).tolist()

    # The loss.

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        batch |= self._pictures
        mask = batch["completion_mask"] * batch["tool_mask"]
        sampled = torch.zeros_like(mask, dtype=torch.float32)
        for row, logprobs in enumerate(self._sampled):
            sampled[row, : len(logprobs)] = torch.tensor(logprobs)
        with torch.no_grad():
            trained, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
                batch["completion_ids"].size(1),
                batch_size=self.args.per_device_train_batch_size,
            )
        difference = (trained - sampled) * mask
        differences, tokens = self._summed(float(difference.abs().sum()), float(mask.sum()))
        mean = differences / max(1.0, tokens)
        mode = "train" if self._policy.training else "eval"
        self._metrics[mode]["agent/logprob_difference"].append(mean)
        if mean > self._mismatch_limit:
            raise ModelProblem(
                f"Rollouts and training disagree on what was sampled (mean |Δlogp| {mean:.3f} a token); "
                "check that the engine serves the weights that are trained, at the same temperature."
            )
        advantages = batch["advantages"]
        if self._algorithm.leave_one_out:
            group = int(self.num_generations or 1)
            advantages = advantages * group / (group - 1)
        # Token-level truncated importance weights (Yao et al., 2025) put right what sampler and trainer round differently.
        batch["advantages"] = advantages[:, None] * difference.exp().clamp(max=2.0)
        self._pictures = {}
        return batch

    def _get_per_token_logps_and_entropies(self, model: Any, input_ids: Any, *words: Any, **more: Any) -> Any:
        if self._pictures and more.get("pixel_values") is None:
            more |= self._pictures
        if self._picture_token is not None:
            more["mm_token_type_ids"] = (input_ids == self._picture_token).int()
        return super()._get_per_token_logps_and_entropies(model, input_ids, *words, **more)


def _column(name: str) -> Callable[..., list[float | None]]:
    """A reward function of TRL's that hands on what is known already."""

    def given(parts: Sequence[dict[str, float | None]], **_: Any) -> list[float | None]:
        return [own[name] for own in parts]

    given.__name__ = name
    return given


def _alike(scored: Sequence[Scored], world: World) -> bool:
    """Whether all rollouts of a group earn the same, so that nothing can be learned from them."""
    return len({world.rewards.total(parts) for _, _, parts in scored}) == 1


def _pictures(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """What the model is given besides tokens, as TRL's batches have it."""
    shown = [one.picture for rollout in rollouts for one in rollout.pictures]
    cut = [picture for picture in shown if isinstance(picture, CutPicture)]
    if len(cut) < len(shown):
        raise ValueError("pictures that were not cut for the model cannot be trained on")
    return {**model_inputs(cut), "num_images": [len(rollout.pictures) for rollout in rollouts]} if cut else {}
