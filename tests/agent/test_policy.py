import hashlib

import platformdirs
import pytest
from fake_retriever import Shelf
from tiny_policy import tiny_policy

from colsearcher.agent import embedded_policy
from colsearcher.agent.answer import make_answer
from colsearcher.agent.embedded_policy import BASE, TRAINED, embedded_folder
from colsearcher.agent.engine import Sampling, StopReason, Turn, take_turn
from colsearcher.agent.policy import load_policy
from colsearcher.agent.protocol import GUIDED, REASONING
from colsearcher.agent.record import Budgets
from colsearcher.agent.rollout import run_rollout
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.indexes.errors import ModelProblem
from colsearcher.retrieval.weights import PinnedFile


@pytest.fixture(scope="module")
def base():
    return load_policy("embedded")


@pytest.fixture(scope="module")
def trained():
    return load_policy()


def test_the_base_knows_the_capital_of_france(base):
    engine = TransformersEngine(base)
    session = engine.start(engine.encode_chat([{"role": "user", "content": "What is the capital of France?"}]))
    turn = take_turn(engine, Turn(session, Sampling(max_tokens=10)))
    assert "Paris" in engine.decode(turn.ids)
    assert base.describe().startswith("policy SmolLM2-135M-Instruct on ")
    assert base.revision == BASE.sha256


@pytest.mark.parametrize(("name", "protocol"), [("base", GUIDED), ("trained", REASONING)])
def test_the_embedded_policies_search_and_answer_with_a_citation(name, protocol, request):
    policy = request.getfixturevalue(name)
    patient = Budgets(seconds=3600)
    rollout = run_rollout("Which valve replaces part K-40?", TransformersEngine(policy), Shelf(), protocol, budgets=patient)
    answer = make_answer(rollout)
    assert rollout.stop in (StopReason.ANSWERED, StopReason.TOKEN_BUDGET)
    assert len(rollout.searches) >= 1
    assert answer.text == rollout.parsed.answer
    if name == "base":
        assert "V-118" in answer.text
        assert str(answer.citations[0]) == "pump.pdf#p=12"
    else:
        assert not rollout.parsed.problems and (answer.citations or answer.abstained)


def test_the_embedded_policy_is_its_base_with_the_adapter_that_comes_along(base, trained):
    """The folder that vLLM is given holds what PEFT makes of the two, in full precision, rounded once."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert trained.revision == TRAINED.sha256
    plain = AutoModelForCausalLM.from_pretrained(embedded_folder("embedded", "float32")[0])
    adapter = TRAINED.path().parent
    expected = PeftModel.from_pretrained(plain, str(adapter)).merge_and_unload().state_dict()
    given = trained.model.state_dict()
    before = base.model.state_dict()
    assert given.keys() == expected.keys()
    changed = [key for key in given if not torch.equal(given[key], before[key])]
    assert len(changed) == 7 * trained.model.config.num_hidden_layers
    for key, weight in expected.items():
        torch.testing.assert_close(given[key], weight.to(given[key].dtype), rtol=0, atol=0)


def test_digits_are_tokens_of_their_own(base):
    assert base.tokenizer.tokenize("1,577 K-40") == ["1", ",", "5", "7", "7", "ĠK", "-", "4", "0"]


@pytest.fixture
def small_source(tmp_path, monkeypatch):
    """The caching around the weights, with a small stand-in for the de-quantised folder."""
    source = tmp_path / "small_policy" / "source.gguf"
    source.parent.mkdir()
    (source.parent / "__init__.py").touch()
    source.write_bytes(b"weights")
    written = []

    def dequantise(source, adapters, target, dtype):
        assert not adapters
        target.mkdir()
        (target / "model.safetensors").write_bytes(source.read_bytes() + dtype.encode())
        written.append(target)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    pinned = PinnedFile("small_policy", "source.gguf", hashlib.sha256(b"weights").hexdigest(), "small")
    monkeypatch.setattr(embedded_policy, "BASE", pinned)
    monkeypatch.setattr(embedded_policy, "_dequantise", dequantise)
    return source, written


def test_the_cache_is_written_once_and_repaired_when_damaged(small_source):
    _, written = small_source
    folder, how = embedded_folder("embedded", "float32")
    assert how == "de-quantised now"
    assert embedded_folder("embedded", "float32") == (folder, "cached copy verified")
    assert len(written) == 1
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert embedded_folder("embedded", "float32") == (folder, "cached copy was damaged, de-quantised again")
    assert weights.read_bytes() == b"weightsfloat32"
    (folder / "colsearcher.json").unlink()
    assert "damaged" in embedded_folder("embedded", "float32")[1]
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_weights_that_are_not_the_pinned_ones_are_refused(small_source):
    source, written = small_source
    source.write_bytes(b"something else")
    with pytest.raises(ModelProblem, match=r"not to the pinned.*make setup"):
        embedded_folder("embedded", "float32")
    assert not written


def test_a_folder_is_a_policy_too(tmp_path):
    tiny = tiny_policy()
    tiny.model.save_pretrained(tmp_path / "tiny")
    tiny.tokenizer.save_pretrained(tmp_path / "tiny")
    loaded = load_policy(str(tmp_path / "tiny"), device="cpu")
    assert TransformersEngine(loaded).encode("the valve") == TransformersEngine(tiny).encode("the valve")
    assert "local folder" in loaded.describe()


def test_an_unknown_policy_is_one_sentence_and_a_fix():
    with pytest.raises(ModelProblem, match="neither a model folder nor found in the local cache"):
        load_policy("nobody/no-such-model", device="cpu", local=True)


def test_the_cache_is_the_users(small_source):
    folder, _ = embedded_folder("embedded", "float32")
    assert str(folder).startswith(platformdirs.user_cache_dir("colsearcher", appauthor=False))
