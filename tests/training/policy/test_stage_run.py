"""A stage as a run: it goes on exactly where it was killed, and goes back when it collapses."""

import json
import warnings

import pytest
import torch
from fake_retriever import Gallery, Shelf
from tiny_policy import tiny_policy_of
from tiny_stage import QUESTIONS, RECIPE, letters, saved, train
from tiny_vision_policy import tiny_vision_policy
from transformers import AutoModelForCausalLM

from colsearcher.agent.embedded_policy import TRAINED
from colsearcher.agent.policy import load_policy
from colsearcher.agent.protocol import GUIDED, REASONING, SEEING
from colsearcher.agent.replay import replay_of
from colsearcher.agent.trace import read_trace
from colsearcher.indexes.errors import UserError
from colsearcher.training.policy.adapters import merge_policy, save_policy, trainable
from colsearcher.training.policy.callbacks import Rotation
from colsearcher.training.policy.checkpoints import step_of
from colsearcher.training.policy.guards import LIKELIHOOD, Guard
from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.report import evaluation_table, read_run, write_report
from colsearcher.training.policy.rewards import RewardSum, Term
from colsearcher.training.policy.stage_run import grpo_config, train_in
from colsearcher.training.policy.trainer import World
from colsearcher.training.run_folder import RunFolder

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return saved(tiny_policy_of("llama"), tmp_path_factory.mktemp("policy"))


def weights(policy):
    return {name: p.detach().clone() for name, p in policy.model.named_parameters() if "lora" in name and "ref" not in name}


class Killed(Exception):
    pass


def kill_after(steps):
    def tell(text):
        if text.startswith(f"retrieval {steps}/"):
            raise Killed

    return tell


@pytest.mark.slow
def test_killed_and_resumed_is_as_if_never_stopped(start, tmp_path):
    whole, run = train(start, tmp_path / "whole")
    with pytest.raises(Killed):
        train(start, tmp_path / "killed", tell=kill_after(3))
    resumed, again = train(start, tmp_path / "killed")
    steps = [row["step"] for row in run.rows()]
    assert steps == [1, 2, 3, 4] == [row["step"] for row in again.rows()]
    for one, other in zip(run.rows(), again.rows(), strict=True):
        same = [name for name in one if "time" not in name and "runtime" not in name]
        assert [one[name] for name in same] == pytest.approx([other[name] for name in same]), one["step"]
    one, other = weights(whole), weights(resumed)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert any(bool(p.any()) for name, p in one.items() if "lora_B" in name), "it has learned"


@pytest.mark.slow
def test_a_run_that_is_resumed_in_a_later_pass_over_the_questions_asks_in_the_same_order(start, tmp_path):
    """Eight questions, four a step: the run is killed in the second pass, and the third has yet another order."""
    recipe = Recipe(**{**RECIPE.__dict__, "steps": 6, "prompts": 4, "kl": 0.0, "trace_every": 1, "save_every": 1})
    asked = {}
    for name, stops in (("whole", ()), ("killed", (3, 5))):
        for stop in stops:
            with pytest.raises(Killed):
                train(start, tmp_path / name, recipe, kill_after(stop))
        train(start, tmp_path / name, recipe)
        traces = sorted((tmp_path / name / "traces").iterdir())
        asked[name] = [(path.name, replay_of(read_trace(path)).question) for path in traces]
    assert asked["whole"] == asked["killed"] and len(asked["whole"]) == 6 * 4
    orders = {tuple(question for _, question in asked["whole"][8 * n : 8 * n + 8]) for n in range(3)}
    assert len(orders) == 3


def test_a_run_that_was_killed_after_its_last_step_takes_no_further_one(start, tmp_path):
    policy, run = train(start, tmp_path / "run")
    again, same = train(start, tmp_path / "run")
    assert [row["step"] for row in same.rows()] == [row["step"] for row in run.rows()] == [1, 2, 3, 4]
    one, other = weights(policy), weights(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_step_is_logged_where_a_batch_is_split_into_several(start, tmp_path):
    recipe = Recipe(**{**RECIPE.__dict__, "splits": 2, "at_once": 1, "kl": 0.0, "trace_every": 2})
    _, run = train(start, tmp_path / "run", recipe)
    assert [(row["step"], "reward" in row) for row in run.rows()] == [(1, True), (2, False), (3, True), (4, False)]
    traces = {path.name.split("-")[1] for path in (tmp_path / "run/traces").iterdir()}
    assert traces == {"000000"}, "of every second batch, which is every fourth step"


def test_all_weights_are_kept_near_to_those_that_the_stage_began_with(start, tmp_path):
    """The policy to begin with is an adapter merged into its base, as after a cold start; the base is something else."""
    adapted, _ = train(start, tmp_path / "cold", Recipe(**{**RECIPE.__dict__, "lr": 0.5, "kl": 0.0}))
    save_policy(adapted, tmp_path / "adapter")
    policy = trainable(str(tmp_path / "adapter"), 0, "cpu")
    began = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    recipe = Recipe(**{**RECIPE.__dict__, "lora_rank": 0, "kl": 0.1, "steps": 1, "lr": 1e-9})
    world = World(QUESTIONS, lambda question: Shelf(), GUIDED, RewardSum((Term(letters),)), recipe.budgets())
    run = RunFolder(tmp_path / "run")
    run.start({}, {}, resume=False)
    train_in(world, policy, recipe, run, lambda text: None)
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "run/checkpoints/beginning")
    assert all(torch.allclose(began[name], p.to(began[name].dtype), atol=1e-2) for name, p in kept.named_parameters())
    assert run.rows()[0]["kl"] < 1e-3


def test_processes_need_whole_questions_where_some_rest_or_are_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr("colsearcher.training.processes.count", lambda: 2)
    policy = tiny_policy_of("llama")
    for change in ({"rest": True}, {"algorithm": "dapo"}):
        recipe = Recipe(**{**RECIPE.__dict__, "prompts": 3, "group": 4, "at_once": 1, **change})
        with pytest.raises(UserError, match="3 questions cannot be shared out among 2 processes"):
            grpo_config(recipe, tmp_path, policy)


def test_checkpoints_of_all_weights_go_but_for_the_last_and_those_to_go_back_to(tmp_path):
    guard = Guard(window=1, fall=0.5, likelihood=0.0, entropy=0.0)
    rotation = Rotation(tmp_path, guard)
    for step in range(1, 13):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        guard.saw(step, {"agent/search_rate": 1.0 if step == 3 else 0.9})
        rotation.on_save(None, None, None)
    assert sorted(map(step_of, tmp_path.iterdir())) == [3, 8, 9, 10, 11, 12]


def test_rollouts_are_kept_as_traces_that_replay_reads_and_a_report_is_written(start, tmp_path):
    _, run = train(start, tmp_path / "run")
    traces = sorted(path.name for path in (tmp_path / "run/traces").iterdir())
    assert traces == [f"step-{step:06d}-{number}.jsonl" for step in (0, 2) for number in range(4)]
    events = read_trace(tmp_path / "run/traces" / traces[0])
    assert replay_of(events).question.startswith("Which valve") and events[-1].data["rewards"].keys() == {"letters"}
    assert list((tmp_path / "run/tensorboard").iterdir())
    assert LIKELIHOOD not in run.rows()[0] and "agent/search_rate" in run.rows()[0]
    picture, page = write_report(tmp_path / "run")
    assert picture.read_bytes().startswith(b"\x89PNG") and "data:image/png;base64" in page.read_text()
    (stage,) = read_run(tmp_path / "run")
    assert len(stage.rows) == 4 and evaluation_table([stage]) == []


def test_a_collapse_stops_the_stage_and_the_weights_before_it_come_back(start, tmp_path):
    # An entropy floor above everything that can be: the first full window is a collapse, and it is its own best.
    recipe = Recipe(**{**RECIPE.__dict__, "guard_entropy": 99.0, "guard_window": 2, "kl": 0.0})
    told = []
    policy, run = train(start, tmp_path / "run", recipe, told.append)
    rows = run.rows()
    assert [row["step"] for row in rows if "step" in row] == [1, 2]
    assert "entropy" in rows[-1]["collapse"] and rows[-1]["rolled_back_to"] in (0, 1, 2) and "the weights are those" in told[-1]
    kept = tmp_path / "run/checkpoints" / f"checkpoint-{rows[-1]['rolled_back_to']}"
    assert kept.is_dir()
    from safetensors.torch import load_file

    stored = load_file(kept / "adapter_model.safetensors")
    for name, value in weights(policy).items():
        assert torch.equal(value, stored[name.replace(".default", "")])


def test_an_adapter_is_trained_further_not_put_on_another(start, tmp_path):
    policy, _ = train(start, tmp_path / "run")
    save_policy(policy, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(start)
    further = trainable(str(tmp_path / "adapter"), 16, "cpu")
    assert further.source == str(start)
    one, other = weights(policy), weights(further)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    merge_policy(tmp_path / "adapter", tmp_path / "merged")
    ids = torch.tensor([[5, 6, 7, 8]])
    plain, adapted = (load_policy(str(tmp_path / name), device="cpu") for name in ("merged", "adapter"))
    with torch.no_grad():
        assert torch.allclose(plain.model(ids).logits, adapted.model(ids).logits, atol=1e-2)
    assert not (tmp_path / "merged/adapter_config.json").exists()


def test_an_adapter_of_a_base_with_a_name_is_saved_without_a_look_at_a_hub(tmp_path):
    """peft asks a hub for what is no folder, and warns when there is none."""
    policy = trainable(str(TRAINED.path().parent), 16, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.model.save_pretrained(str(tmp_path / "checkpoint"))
        save_policy(policy, tmp_path / "model")
    assert json.loads((tmp_path / "model/adapter_config.json").read_text())["base_model_name_or_path"] == "embedded"


def test_a_seeing_policy_goes_through_both_stages_on_page_images(tmp_path):
    policy = tiny_vision_policy()
    shelf, before = Shelf(), {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    for stage in ("retrieval", "answer"):
        changes = {"stage": stage, "steps": 2, "lora_rank": 0, "kl": 0.0, "picture_tokens": 24, "total_tokens": 420}
        recipe = Recipe(**{**RECIPE.__dict__, **changes})
        rewards = RewardSum((*recipe.reward_sum().terms, Term(letters)))
        world = World(QUESTIONS, lambda question: shelf, GUIDED, rewards, recipe.budgets(), Gallery())
        run = RunFolder(tmp_path / stage)
        run.start({}, {}, resume=False)
        train_in(world, policy, recipe, run, lambda text: None)
        rows = run.rows()
        assert len(rows) == 2 and all(row["agent/logprob_difference"] < 1e-3 for row in rows)
        (trace, *_) = sorted((tmp_path / stage / "traces").iterdir())
        assert any(event.data.get("pictures") for event in read_trace(trace)), "pages are pictures"
    moved = [name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])]
    assert any("visual" in name for name in moved) and any("layers" in name for name in moved)


def test_words_come_before_pages():
    world = World(QUESTIONS, lambda question: Shelf(), SEEING, RewardSum((Term(letters),)), viewer=Gallery(), pages_from=3)
    assert world.shown_at(2) == (REASONING, None)
    assert world.shown_at(3) == (SEEING, world.viewer)
