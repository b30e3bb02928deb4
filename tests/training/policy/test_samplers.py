"""Rollouts from a server that is handed each new adapter, in place of the trainer's own model."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_model_server import ROOT, CompletionServer
from fake_retriever import Gallery, Shelf
from tiny_policy import tiny_policy
from tiny_stage import QUESTIONS, saved, train
from tiny_stage import RECIPE as TINY
from tiny_vision_policy import store, tiny_vision_policy

from colsearcher.agent import policy as policy_module
from colsearcher.agent.http_client import HttpClient
from colsearcher.agent.policy_tokenizer import PolicyTokenizer
from colsearcher.agent.protocol import GUIDED
from colsearcher.agent.record import Task
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.agent.vllm_server import VllmServerEngine
from colsearcher.indexes.errors import ModelProblem, UserError
from colsearcher.training.policy.adapters import save_policy, trainable
from colsearcher.training.policy.samplers import VllmSampler, open_sampler

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

RECIPE = replace(TINY, steps=3, lr=3e-2)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return saved(tiny_policy(2048), tmp_path_factory.mktemp("policy"))


@pytest.fixture
def server():
    with CompletionServer() as running:
        yield running


def sampler(server, start, tmp_path):
    tokenizer = PolicyTokenizer("tiny", tiny_policy(2048).tokenizer)
    return VllmSampler(VllmServerEngine(HttpClient(server.url), tokenizer, [ROOT]), str(start), tmp_path / "adapters")


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Policies are loaded in the server's float32, whatever this processor is fast at."""
    monkeypatch.setattr(policy_module, "_placement", lambda device: ("cpu", "float32", "test"))


def trained_in(tmp_path, start, recipe, sampler):
    _, run = train(start, tmp_path / "run", recipe, sampler=sampler)
    return [row for row in run.rows() if "reward" in row]


def changed(start, folder):
    policy = trainable(str(start), RECIPE.lora_rank, "cpu")
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    save_policy(policy, folder)
    return policy


def test_the_server_samples_with_the_weights_that_are_trained(server, start, tmp_path):
    """The first batch is of the base alone, so its logprobs agree whatever the server does; later ones only if it was handed
    what was learned."""
    rows = trained_in(tmp_path, start, RECIPE, sampler(server, start, tmp_path))
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["agent/logprob_difference"] < 1e-4 for row in rows)
    assert any(row["grad_norm"] > 0 for row in rows[:2]), "the weights have changed"
    asked = {body["model"] for body in server.requests if body.get("stream")}
    assert len(asked) == 3 and "served" not in asked, "an adapter of its own for each batch"
    assert len(server.adapters) == 1, "those before were dropped"
    assert not list((tmp_path / "adapters").iterdir())


def test_a_policy_that_sees_is_shown_pages_by_the_server_and_learns_from_them(tmp_path):
    policy = tiny_vision_policy()
    start = store(policy, tmp_path / "policy")
    with CompletionServer(policy=policy) as server:
        tokenizer = PolicyTokenizer("tiny", policy.tokenizer)
        engine = VllmServerEngine(HttpClient(server.url), tokenizer, [ROOT], None, policy.cutter)
        sampled = VllmSampler(engine, str(start), tmp_path / "adapters")
        recipe = replace(RECIPE, turn_tokens=8, total_tokens=420, document_tokens=60, picture_tokens=24)
        trained, run = train(start, tmp_path / "run", recipe, sampler=sampled, viewer=Gallery())
    rows = [row for row in run.rows() if "reward" in row]
    assert len(rows) == 3 and all(row["agent/logprob_difference"] < 1e-3 for row in rows)
    assert any("content_parts" in body and body["model"] != "served" for body in server.requests)
    learned = [name for name, weight in trained.model.named_parameters() if weight.requires_grad]
    assert learned and not any("visual" in name for name in learned), "vLLM takes no adapter of what sees"


def test_a_server_that_kept_old_weights_is_noticed(server, start, tmp_path):
    kept = sampler(server, start, tmp_path)
    kept._use = lambda name, folder: None  # what the server is handed goes nowhere
    with pytest.raises(ModelProblem, match="disagree on what was sampled"):
        trained_in(tmp_path, start, replace(RECIPE, lr=1.0, steps=6), kept)


def test_stored_policies_are_sampled_as_transformers_does(server, start, tmp_path):
    policy = changed(start, tmp_path / "trained")
    kept = sampler(server, start, tmp_path)
    tasks = [Task(question.text) for question in QUESTIONS.values()]

    def written(engine):
        return [rollout.ids for _, rollout in sorted(run_rollouts(tasks, engine, Shelf(), GUIDED, RECIPE.budgets()))]

    here = written(TransformersEngine(policy))
    untrained = written(TransformersEngine(tiny_policy(2048)))
    assert here != untrained
    assert written(kept.of_stored(str(tmp_path / "trained"))) == here
    assert written(kept.of_stored(str(start))) == untrained


def test_another_base_is_refused(server, start, tmp_path):
    with pytest.raises(ModelProblem, match=r"vLLM holds .*, not elsewhere; begin with a policy on"):
        sampler(server, start, tmp_path).of_stored("elsewhere")


def test_a_server_that_takes_no_adapters_says_how_to_start_it(server, start, tmp_path):
    server.takes_adapters = False
    changed(start, tmp_path / "trained")
    with pytest.raises(ModelProblem, match=r"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.*--enable-lora"):
        sampler(server, start, tmp_path).of_stored(str(tmp_path / "trained"))


@pytest.mark.parametrize(
    ("engine", "rank", "sentence"),
    [("openai:m@https://h/v1", 16, "does not say which tokens it sampled"), ("http://localhost:1", 0, "trains all weights")],
)
def test_engines_that_cannot_follow_are_refused(engine, rank, sentence, start):
    with pytest.raises(UserError, match=sentence):
        open_sampler(engine, str(start), rank, Path("nowhere"))
