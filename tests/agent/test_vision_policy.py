"""Policies that see: page images in the middle of generation, exact to the token and to the logprob."""

from __future__ import annotations

import pytest
import torch
from fake_retriever import Gallery, Shelf, page
from tiny_policy import tiny_policy
from tiny_vision_policy import KINDS, store, tiny_vision_policy

from colsearcher.agent.engine import EngineProblem, Sampling, Turn, take_turn
from colsearcher.agent.pictures import positions
from colsearcher.agent.policy import Policy, load_policy
from colsearcher.agent.protocol import SEEING
from colsearcher.agent.record import Budgets, Rollout, Task
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.transformers_engine import TransformersEngine


def reference_logprobs(engine: TransformersEngine, ids, pictures) -> torch.Tensor:
    """One pass of the model over everything, its own positions, no cache. Entry t is the logprob of ids[t + 1]."""
    cutter = engine.cutter
    tokens = torch.tensor([ids])
    kinds = (tokens == cutter.pad).int()
    given = {}
    if pictures:
        given["pixel_values"] = torch.cat([picture.pixel_values for picture in pictures])
        given["image_grid_thw"] = torch.tensor([(1, *picture.patches) for picture in pictures])
    with torch.inference_mode():
        logits_T_V = engine.model(tokens, mm_token_type_ids=kinds, use_cache=False, **given).logits[0].float()
    return torch.log_softmax(logits_T_V, -1)[:-1].gather(1, tokens[0, 1:, None])[:, 0]


class Steered(TransformersEngine):
    """A random model that writes a given text in each conversation before it goes on as it likes; a trained one would."""

    def __init__(self, policy: Policy, texts: list[str]) -> None:
        super().__init__(policy)
        self.texts = texts
        self.scripts: dict[object, list[int]] = {}
        self.steered: dict[object, set[int]] = {}

    def _logits_R_V(self, sessions):
        logits_R_V = super()._logits_R_V(sessions).clone()
        for row, session in enumerate(sessions):
            script = self.scripts.setdefault(session, [token for text in self.texts for token in self.encode(text)])
            if script:
                logits_R_V[row] = -torch.inf
                logits_R_V[row, script.pop(0)] = 0.0
                self.steered.setdefault(session, set()).add(len(session.tokens))
        return logits_R_V


def check(rollout: Rollout, engine: TransformersEngine, steered: set[int] = frozenset()) -> None:
    ids = [*rollout.prompt_ids, *rollout.ids]
    reference = reference_logprobs(engine, ids, [shown.picture for shown in rollout.pictures])[len(rollout.prompt_ids) - 1 :]
    free = [place + len(rollout.prompt_ids) not in steered for place in range(len(rollout.ids))]
    expected = [float(value) if bit and own else 0.0 for value, bit, own in zip(reference, rollout.mask, free, strict=True)]
    assert rollout.logprobs == pytest.approx(expected, abs=1e-4)
    assert sum(bit and own for bit, own in zip(rollout.mask, free, strict=True)) >= 3
    for shown in rollout.pictures:
        span = rollout.ids[shown.at : shown.at + shown.picture.tokens]
        assert set(span) == {engine.cutter.pad} and not any(rollout.mask[shown.at - 1 : shown.at + len(span) + 1])


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_in_the_middle_are_what_one_pass_over_everything_sees(kind):
    engine = TransformersEngine(tiny_vision_policy(kind))
    sessions = []
    for number in range(3):
        session = engine.start(engine.encode("look at this " + "and this " * number))
        shown = []
        for step in range(2):
            images = [page(number + step + 1), page(7, (120, 400))][: 1 + (number + step) % 2]
            ids, pictures = [], []
            for image in images:
                tokens, picture = engine.picture(image, 40)
                ids += [*engine.encode(" page "), *tokens]
                pictures.append(picture)
            session.append([*ids, *engine.encode(".")], pictures)
            shown += pictures
            sessions.append((session, shown, Turn(session, Sampling(temperature=1.0, seed=number, max_tokens=5))))
            take_turn(engine, sessions[-1][2])
    for session, shown, turn in sessions[1::2]:
        reference = reference_logprobs(engine, session.ids, shown)
        assert turn.logprobs == pytest.approx(reference[-len(turn.ids) :].tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rollouts_with_pages_and_looks_are_exact(kind):
    texts = ["<begin_of_query>valve K-40<end_of_query>", "<look>pump.pdf#p=12&box=0.1,0.1,0.5,0.5</look>"]
    engine = Steered(tiny_vision_policy(kind), texts)
    tasks = [Task(f"Which valve {seed}?", Sampling(temperature=1.0, seed=seed, max_tokens=70)) for seed in range(3)]
    budgets = Budgets(total_tokens=1200, picture_tokens=60)
    for _, rollout in run_rollouts(tasks, engine, Shelf(), SEEING, budgets, viewer=Gallery()):
        assert len(rollout.pictures) == 4 and rollout.looks[0].notice is None
        assert str(rollout.pictures[3].place) == "pump.pdf#p=12&box=0.1,0.1,0.5,0.5"
        (steered,) = [places for session, places in engine.steered.items() if session.ids == rollout.prompt_ids + rollout.ids]
        check(rollout, engine, steered)


def test_one_question_asked_again_shares_what_was_computed_of_its_pictures():
    engine = TransformersEngine(tiny_vision_policy())
    tokens, picture = engine.picture(page(1), 40)
    other_tokens, other = engine.picture(page(2), 40)
    assert tokens == other_tokens and picture.digest != other.digest

    def ask(shown):
        session = engine.start(engine.encode("what is on "))
        session.append([*tokens, *engine.encode(" this page?")], [shown])
        turn = take_turn(engine, Turn(session, Sampling(temperature=1.0, seed=1, max_tokens=4)))
        session.close()
        return turn, reference_logprobs(engine, session.ids, [shown])[-4:].tolist()

    for shown in (picture, other, picture):  # the same tokens, and not the same page
        turn, expected = ask(shown)
        assert turn.logprobs == pytest.approx(expected, abs=1e-4)


def test_a_token_that_stands_for_pixels_is_never_sampled():
    engine = TransformersEngine(tiny_vision_policy())
    with torch.no_grad():
        engine.model.lm_head.weight[engine.cutter.pad] = engine.model.lm_head.weight.abs().max() * 50
    turn = take_turn(engine, Turn(engine.start(engine.encode("the")), Sampling(temperature=1.0, max_tokens=30)))
    assert engine.cutter.pad not in turn.ids


def test_budgets_of_tokens_are_kept_for_all_shapes():
    engine = TransformersEngine(tiny_vision_policy())
    for size in ((300, 200), (2000, 400), (50, 900), (28, 28), (3000, 4000), (4000, 3)):
        for budget in (4, 17, 64, 300):
            ids, picture = engine.picture(page(1, size), budget)
            assert picture.tokens <= max(budget, 4) and ids.count(engine.cutter.pad) == picture.tokens


def test_pictures_and_tokens_have_to_fit_together():
    engine = TransformersEngine(tiny_vision_policy())
    tokens, picture = engine.picture(page(1), 40)
    session = engine.start(engine.encode("x"))
    for ids, pictures in ((tokens, []), (engine.encode("no picture"), [picture]), ([*tokens, *tokens], [picture])):
        with pytest.raises(ValueError, match="not those"):
            session.append(ids, pictures)
    assert session.ids == tuple(engine.encode("x")) and session.waiting_pictures() == []


def test_positions_are_those_of_the_model():
    engine = TransformersEngine(tiny_vision_policy())
    ids, pictures = [], []
    for image in (page(1), page(2, (120, 400))):
        tokens, picture = engine.picture(image, 50)
        ids += [*engine.encode("text"), *tokens]
        pictures.append(picture)
    kinds = (torch.tensor([ids]) == engine.cutter.pad).int()
    grids = torch.tensor([(1, *picture.patches) for picture in pictures])
    expected, _ = engine.model.model.get_rope_index(torch.tensor([ids]), kinds, image_grid_thw=grids)
    places, following = positions(ids, engine.cutter.pad, [picture.grid for picture in pictures])
    assert torch.tensor(places).T.tolist() == expected[:, 0].tolist()
    assert following == int(expected.max()) + 1


def test_a_checkpoint_that_sees_is_loaded_with_what_cuts_pictures(tmp_path):
    policy = tiny_vision_policy()
    loaded = load_policy(str(store(policy, tmp_path)), device="cpu")
    assert "sees pages" in loaded.describe()
    engine = TransformersEngine(loaded)
    assert engine.sees and engine.picture(page(1), 40)[0] == TransformersEngine(policy).picture(page(1), 40)[0]


def test_a_policy_of_text_says_that_it_does_not_see():
    with pytest.raises(EngineProblem, match="does not see pictures"):
        TransformersEngine(tiny_policy()).picture(page(1), 40)
