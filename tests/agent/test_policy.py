import hashlib

import platformdirs
import pytest
from fake_retriever import Shelf
from tiny_policy import tiny_policy

from colsearcher.agent import policy as policy_module
from colsearcher.agent.answer import make_answer
from colsearcher.agent.engine import Sampling, StopReason, Turn, take_turn
from colsearcher.agent.policy import EMBEDDED, load_policy
from colsearcher.agent.protocol import GUIDED
from colsearcher.agent.rollout import run_rollout
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.indexes.errors import ModelProblem
from colsearcher.retrieval.weights import PinnedFile


@pytest.fixture(scope="module")
def embedded():
    return load_policy()


def test_the_embedded_policy_knows_the_capital_of_france(embedded):
    engine = TransformersEngine(embedded)
    session = engine.start(engine.encode_chat([{"role": "user", "content": "What is the capital of France?"}]))
    turn = take_turn(engine, Turn(session, Sampling(max_tokens=10)))
    assert "Paris" in engine.decode(turn.ids)
    assert embedded.describe().startswith("policy SmolLM2-135M-Instruct on ")
    assert embedded.revision == EMBEDDED.sha256


def test_the_embedded_policy_searches_and_answers_with_a_citation(embedded):
    rollout = run_rollout("Which valve replaces part K-40?", TransformersEngine(embedded), Shelf(), GUIDED)
    answer = make_answer(rollout)
    assert rollout.stop in (StopReason.ANSWERED, StopReason.TOKEN_BUDGET)
    assert len(rollout.searches) == 1
    assert answer.text == rollout.parsed.answer
    assert "V-118" in answer.text
    assert str(answer.citations[0]) == "pump.pdf#p=12"


def test_digits_are_tokens_of_their_own(embedded):
    assert embedded.tokenizer.tokenize("1,577 K-40") == ["1", ",", "5", "7", "7", "ĠK", "-", "4", "0"]


@pytest.fixture
def small_source(tmp_path, monkeypatch):
    """The caching around the weights, with a small stand-in for the de-quantised folder."""
    source = tmp_path / "small_policy" / "source.gguf"
    source.parent.mkdir()
    (source.parent / "__init__.py").touch()
    source.write_bytes(b"weights")
    written = []

    def dequantise(source, target, dtype):
        target.mkdir()
        (target / "model.safetensors").write_bytes(source.read_bytes() + dtype.encode())
        written.append(target)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    pinned = PinnedFile("small_policy", "source.gguf", hashlib.sha256(b"weights").hexdigest(), "small")
    monkeypatch.setattr(policy_module, "EMBEDDED", pinned)
    monkeypatch.setattr(policy_module, "_dequantise", dequantise)
    return source, written


def test_the_cache_is_written_once_and_repaired_when_damaged(small_source):
    _, written = small_source
    folder, how = policy_module._embedded_folder("float32")
    assert how == "de-quantised now"
    assert policy_module._embedded_folder("float32") == (folder, "cached copy verified")
    assert len(written) == 1
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert policy_module._embedded_folder("float32") == (folder, "cached copy was damaged, de-quantised again")
    assert weights.read_bytes() == b"weightsfloat32"
    (folder / "colsearcher.json").unlink()
    assert "damaged" in policy_module._embedded_folder("float32")[1]
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_weights_that_are_not_the_pinned_ones_are_refused(small_source):
    source, written = small_source
    source.write_bytes(b"something else")
    with pytest.raises(ModelProblem, match=r"not to the pinned.*make setup"):
        policy_module._embedded_folder("float32")
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
    folder, _ = policy_module._embedded_folder("float32")
    assert str(folder).startswith(platformdirs.user_cache_dir("colsearcher", appauthor=False))
