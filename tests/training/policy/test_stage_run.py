"""A stage as a run: it goes on exactly where it was killed, and goes back when it collapses."""

import json
import warnings

import pytest
import torch
from fake_retriever import Gallery, Shelf
from tiny_policy import tiny_policy_of
from tiny_stage import QUESTIONS, RECIPE, letters, saved, train
from tiny_vision_policy import tiny_vision_policy

from colsearcher.agent.embedded_policy import TRAINED
from colsearcher.agent.policy import load_policy
from colsearcher.agent.protocol import GUIDED, REASONING, SEEING
from colsearcher.agent.replay import replay_of
from colsearcher.agent.trace import read_trace
from colsearcher.training.policy.adapters import merge_policy, save_policy, trainable
from colsearcher.training.policy.guards import LIKELIHOOD
from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.report import evaluation_table, read_run, write_report
from colsearcher.training.policy.rewards import RewardSum, Term
from colsearcher.training.policy.stage_run import train_in
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
