"""GRPO over the agent's rollouts: exact to the token, documents out of the loss, words and pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fake_engine import ScriptedEngine
from fake_retriever import BrokenShelf, Gallery, Shelf
from tiny_policy import tiny_policy_of
from tiny_vision_policy import tiny_vision_policy
from trl import GRPOConfig

from colsearcher.agent.protocol import GUIDED
from colsearcher.agent.record import Budgets
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import ModelProblem
from colsearcher.training.policy.algorithms import ALGORITHMS
from colsearcher.training.policy.judge import judge_of
from colsearcher.training.policy.rewards import RewardSum, Term, judge, searched
from colsearcher.training.policy.trainer import PolicyTrainer, World
from colsearcher.training.question import Question

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using 'rollout_func':UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def letters(answer: str | None) -> float:
    """Something that a random model can learn in a few steps."""
    return sum(character.isalpha() for character in answer or "") / 20


QUESTIONS = {str(n): Question(str(n), f"Which valve {n}?", ("V-118",), frozenset({Address("pump.pdf", 12)})) for n in range(8)}
BUDGETS = Budgets(total_tokens=420, document_tokens=60, picture_tokens=24)


def trainer(tmp_path, policy, algorithm="grpo", *, shelf=None, viewer=None, rewards=None, settings=None, judge=None, **more):
    shelf = shelf or Shelf()
    world = World(
        QUESTIONS, lambda question: shelf, GUIDED, rewards or RewardSum((Term(searched, 0.5), Term(letters))), BUDGETS, viewer
    )
    world = replace(world, judge=judge)
    how = {"per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 1, "learning_rate": 1e-3, **(settings or {})}
    args = GRPOConfig(
        str(tmp_path),
        logging_steps=1,
        report_to=[],
        max_completion_length=500,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
        **{**ALGORITHMS[algorithm].settings, **how},
    )
    engine = TransformersEngine(policy)
    return PolicyTrainer(
        policy.model, policy.tokenizer, engine, lambda save: engine.forget(), world, ALGORITHMS[algorithm], args, **more
    )


def naive(policy, rollouts, advantages):
    """GRPO's loss at its first step, one rollout and one token at a time, and its gradients."""
    model = policy.model
    model.zero_grad()
    losses = []
    for rollout, advantage in zip(rollouts, advantages, strict=True):
        tokens = torch.tensor([[*rollout.prompt_ids, *rollout.ids]])
        given = {}
        if rollout.pictures:
            given["pixel_values"] = torch.cat([shown.picture.pixel_values for shown in rollout.pictures])
            given["image_grid_thw"] = torch.tensor([(1, *shown.picture.patches) for shown in rollout.pictures])
            given["mm_token_type_ids"] = (tokens == policy.cutter.pad).int()
        logprobs = torch.log_softmax(model(tokens, use_cache=False, **given).logits[0].float(), -1)
        terms = []
        for place, written in enumerate(rollout.mask):
            if written:
                at = len(rollout.prompt_ids) + place
                logprob = logprobs[at - 1, tokens[0, at]]
                terms.append(-advantage * torch.exp(logprob - logprob.detach()))
        losses.append(torch.stack(terms).mean())
    loss = torch.stack(losses).mean()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return float(loss.detach()), gradients


def one_batch(made):
    """The batch that the trainer would train on next, with the rollouts that it is made of."""
    played = []
    made._on_rollouts = lambda step, scored: played.extend(scored)
    made.model.train()
    names = [name for name in list(QUESTIONS)[:2] for _ in range(4)]
    batch = made._generate_and_score_completions([{"prompt": name} for name in names])
    return batch, [rollout for rollout, _, _ in played]


def gradients_of(made, batch, rows=None):
    part = batch if rows is None else {name: _rows(value, rows) for name, value in batch.items()}
    made.model.zero_grad()
    made.current_gradient_accumulation_steps = 1
    loss = made._compute_loss(made.model, part)
    loss.backward()
    found = {name: p.grad.clone() for name, p in made.model.named_parameters() if p.grad is not None}
    made.model.zero_grad()
    return float(loss.detach()), found


def _rows(value, rows):
    return value[rows] if isinstance(value, torch.Tensor) and value.dim() else value


def close(a, b, scale=1.0):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value * scale, b[name] * scale, atol=2e-5, rtol=1e-3), name


@pytest.mark.parametrize("sees", [False, True])
def test_loss_and_gradients_are_those_of_one_token_at_a_time(tmp_path, sees):
    policy = tiny_vision_policy() if sees else tiny_policy_of("llama")
    made = trainer(tmp_path, policy, viewer=Gallery() if sees else None)
    batch, rollouts = one_batch(made)
    assert len({len(rollout.ids) for rollout in rollouts}) > 1, "a ragged batch"
    assert any(rollout.pictures for rollout in rollouts) == sees
    assert made._metrics["train"]["agent/logprob_difference"][-1] < 1e-4
    loss, gradients = gradients_of(made, batch)
    per_row = batch["advantages"][:, -1].tolist()  # what is padding or context there has a weight of 1
    expected_loss, expected = naive(policy, rollouts, per_row)
    assert loss == pytest.approx(expected_loss, abs=1e-4)
    close(gradients, expected)


def test_eight_at_once_are_eight_times_one(tmp_path):
    made = trainer(tmp_path, tiny_policy_of("llama"))
    batch, _ = one_batch(made)
    loss, gradients = gradients_of(made, batch)
    singles = [gradients_of(made, batch, rows=[row]) for row in range(8)]
    assert loss == pytest.approx(sum(own for own, _ in singles) / 8, abs=1e-5)
    close(gradients, {name: sum(own[name] for _, own in singles) / 8 for name in gradients})


def test_what_the_environment_wrote_has_no_gradient_and_without_the_mask_it_has(tmp_path):
    policy = tiny_policy_of("llama")
    masked, unmasked = (trainer(tmp_path, policy, mask_documents=mask, mismatch_limit=99.0) for mask in (True, False))
    batch, rollouts = one_batch(masked)
    learned = batch["completion_mask"] * batch["tool_mask"]
    for row, rollout in enumerate(rollouts):
        assert learned[row, : len(rollout.ids)].tolist() == list(rollout.mask)
        assert not learned[row, len(rollout.ids) :].any()
    # Other advantages on tokens that are not learned from change nothing.
    _, gradients = gradients_of(masked, batch)
    noisy = {**batch, "advantages": torch.where(learned.bool(), batch["advantages"], torch.full_like(batch["advantages"], 1e6))}
    _, same = gradients_of(masked, noisy)
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)
    other, _ = one_batch(unmasked)
    trained_on = int((other["completion_mask"] * other["tool_mask"]).sum())
    assert trained_on > 3 * int(learned.sum()), "documents, reminders and tags would be learned by heart"


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_takes_steps(tmp_path, algorithm):
    settings = {"max_steps": 2, "learning_rate": 3e-3}
    made = trainer(tmp_path, tiny_policy_of("llama"), algorithm, settings=settings)
    made.train()
    rows = [row for row in made.state.log_history if "reward" in row]
    assert len(rows) == 2 and all(row["agent/logprob_difference"] < 1e-4 for row in rows)
    assert rows[-1]["grad_norm"] > 0 and rows[-1]["agent/search_rate"] > 0.5


def test_advantages_of_leave_one_out(tmp_path):
    made = trainer(tmp_path, tiny_policy_of("llama"), "rloo")
    batch, rollouts = one_batch(made)
    earned = [0.5 * bool(r.searches and r.searches[0].passages) + letters(r.parsed.answer) for r in rollouts]
    for start in (0, 4):
        group = earned[start : start + 4]
        for place, own in enumerate(group):
            others = (sum(group) - own) / 3
            row = batch["advantages"][start + place]
            assert float(row[row != 0].mean()) if own != others else pytest.approx(own - others, abs=1e-4) == 0.0


def test_groups_that_are_all_alike_are_drawn_again(tmp_path):
    asked = []

    class Watched(Shelf):
        def search(self, queries, k):
            asked.append(len(queries))
            return super().search(queries, k)

    everyone = RewardSum((Term(searched),))
    made = trainer(tmp_path, tiny_policy_of("llama"), "dapo", shelf=Watched(), rewards=everyone)
    _, first = one_batch(made)
    assert sum(asked) > 8
    # What is told, to the traces, is what was drawn first and not what took its place.
    names = [name for name in list(QUESTIONS)[:2] for _ in range(4)]
    assert [rollout.question for rollout in first] == [QUESTIONS[name].text for name in names]


def test_a_judge_is_asked_about_the_answers_that_there_are(tmp_path):
    asked = []

    def says(answers):
        asked.extend(answers)
        return [None if len(written) % 3 == 0 else len(written) % 3 == 1 for _, written in answers]

    made = trainer(tmp_path, tiny_policy_of("llama"), rewards=RewardSum((Term(judge),)), judge=says)
    played = []
    made._on_rollouts = lambda step, scored: played.extend(scored)
    made.model.train()
    made._generate_and_score_completions([{"prompt": name} for name in list(QUESTIONS)[:2] for _ in range(4)])
    answered = [outcome for _, outcome, _ in played if outcome.answer]
    assert 0 < len(answered) == len(asked) and {question.id for question, _ in asked} <= {"0", "1"}
    for _, outcome, parts in played:
        length = len(outcome.answer or "")
        assert parts["judge"] == (None if length % 3 == 0 and length else float(length % 3 == 1))


def test_a_language_model_as_judge():
    judged = judge_of(ScriptedEngine([["Right."], ["wrong"], ["right or wrong?"]]))
    question = QUESTIONS["0"]
    assert judged([(question, "V-118"), (question, "V-2"), (question, "?")]) == [True, False, None]
    assert judged([]) == []


def test_a_failed_retriever_teaches_nothing(tmp_path):
    made = trainer(tmp_path, tiny_policy_of("llama"), shelf=BrokenShelf())
    batch, _ = one_batch(made)
    assert not batch["advantages"].any()


def test_an_engine_with_other_weights_is_found_out(tmp_path):
    policy = tiny_policy_of("llama")
    other = tiny_policy_of("llama", seed=1)
    made = trainer(tmp_path, policy, mismatch_limit=0.05)
    made._engine = TransformersEngine(other)
    with pytest.raises(ModelProblem, match="disagree on what was sampled"):
        one_batch(made)


def test_a_seeing_policy_takes_steps_on_page_images(tmp_path):
    policy = tiny_vision_policy()
    policy.model.save_pretrained(tmp_path / "start")  # what it is kept near to
    policy.model.config._name_or_path = str(tmp_path / "start")
    made = trainer(tmp_path, policy, viewer=Gallery(), settings={"max_steps": 2, "beta": 0.01})
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    made.train()
    rows = [row for row in made.state.log_history if "reward" in row]
    assert all(row["agent/logprob_difference"] < 1e-3 for row in rows) and all("kl" in row for row in rows)
    moved = [name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])]
    assert any("visual" in name for name in moved) and any("layers" in name for name in moved)
