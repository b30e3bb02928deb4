import importlib.util
from pathlib import Path

import pytest
from fake_model_server import ChatServer, CompletionServer
from tiny_policy import tiny_policy
from tiny_vision_policy import store, tiny_vision_policy

from colsearcher.agent.chat_engine import ChatEngine
from colsearcher.agent.engine import Sampling, Turn, take_turn
from colsearcher.agent.engines import load_engine
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.agent.vllm_server import VllmServerEngine
from colsearcher.indexes.errors import MissingExtra, ModelProblem, UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy as a model folder."""
    path = tmp_path_factory.mktemp("policy") / "tiny"
    policy = tiny_policy(512)
    policy.model.save_pretrained(path)
    policy.tokenizer.save_pretrained(path)
    return path


def test_each_name_is_an_engine(folder, monkeypatch):
    here = load_engine(str(folder))
    assert isinstance(here.engine, TransformersEngine) and here.engine.exact
    assert here.told.startswith(f"policy {folder} on ")
    with CompletionServer() as server:
        monkeypatch.setattr(server.engine, "name", "other")
        with pytest.raises(ModelProblem, match="serves served, not"):
            load_engine(str(folder), server.url)
    with ChatServer(["hello"]) as chat:
        hosted = load_engine(engine=f"openai:small@{chat.url}/v1")
        assert isinstance(hosted.engine, ChatEngine) and not hosted.engine.exact
        assert "not exact" in hosted.told
        session = hosted.engine.start(hosted.engine.encode_chat([{"role": "user", "content": "u"}]))
        assert hosted.engine.decode(take_turn(hosted.engine, Turn(session, Sampling())).ids) == "hello[end]"


def test_a_server_is_found_by_its_address(folder, monkeypatch):
    with CompletionServer() as server:
        monkeypatch.setattr("fake_model_server.ROOT", str(folder))
        served = load_engine(str(folder), server.url, local=True)
        assert isinstance(served.engine, VllmServerEngine)
        assert "processed_logprobs" in served.told
        written = []
        for engine in (served.engine, server.engine):
            session = engine.start(engine.encode("the query"))
            written.append(take_turn(engine, Turn(session, Sampling(max_tokens=8))).ids)
        assert len(set(written)) == 1
        assert "pictures" not in served.told


def test_what_a_server_shows_to_a_policy_that_sees_is_said(tmp_path, monkeypatch):
    policy = tiny_vision_policy()
    folder = str(store(policy, tmp_path / "sees"))
    monkeypatch.setattr("fake_model_server.ROOT", folder)
    with CompletionServer(policy=policy) as server:
        seeing = load_engine(folder, server.url, local=True)
        server.scale_out = False
        blind = load_engine(folder, server.url, local=True)
    assert seeing.told.endswith(", sees pages") and seeing.engine.sees
    assert "shown words; a server started with --enable-scale-out" in blind.told and not blind.engine.sees


@pytest.mark.parametrize("name", ["vllm2", "ftp://x", "openai:small", "openai:@http://x/v1", "openai:m@ftp://x", "http://"])
def test_a_name_that_is_none(name):
    with pytest.raises(UserError):
        load_engine(engine=name)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_that_is_not_installed_is_said_with_the_fix():
    with pytest.raises(MissingExtra, match=r"colsearcher\[gpu\]"):
        load_engine(engine="vllm")


def test_a_policy_that_is_not_there_is_said_before_vllm_is_looked_for(tmp_path):
    with pytest.raises(ModelProblem, match="cannot be loaded"):
        load_engine(str(tmp_path), "vllm", local=True)
