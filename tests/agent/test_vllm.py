"""The engines against a real vLLM that computes in float32 on the processor; transformers in float32 is the reference."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import vllm_process
from fake_retriever import Shelf
from PIL import Image, ImageDraw
from tiny_vision_policy import KINDS, store, tiny_vision_policy

from colsearcher.agent import policy as policy_module
from colsearcher.agent.chat_engine import ChatEngine
from colsearcher.agent.embedded_policy import TRAINED
from colsearcher.agent.engine import EngineProblem, Generation, Sampling, StopReason, Turn, take_turn
from colsearcher.agent.engines import load_engine
from colsearcher.agent.http_client import HttpClient
from colsearcher.agent.policy import Policy, load_policy, policy_source
from colsearcher.agent.protocol import GUIDED, REASONING
from colsearcher.agent.record import Budgets, Task
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.agent.vllm_server import VllmServerEngine
from colsearcher.training.policy.adapters import save_policy, trainable

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(vllm_process.MISSING is not None, reason=str(vllm_process.MISSING)),
]
FLAGS = ("--dtype", "float32", "--max-model-len", "2048", "--enforce-eager", "--logprobs-mode", "processed_logprobs")
ADAPTERS = ("--enable-lora", "--max-lora-rank", "16")
QUESTIONS = (
    "Which valve replaces part K-40?",
    "What is the torque for V-118?",
    "Who is the chair of the board?",
    "Which hall?",
)

PATIENT = Budgets(seconds=3600)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with vllm_process.vllm_server(policy_source("embedded"), log, *FLAGS, *ADAPTERS) as address:
        yield address


@pytest.fixture(scope="module")
def served(url: str) -> VllmServerEngine:
    engine = load_engine("embedded", url).engine
    assert isinstance(engine, VllmServerEngine)
    return engine


@pytest.fixture(scope="module")
def direct() -> TransformersEngine:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = policy_source("embedded")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return TransformersEngine(Policy("embedded", "0", model, tokenizer, "cpu", "float32", "test"), 2048)


def paused_turns(engine: VllmServerEngine | TransformersEngine, question: str) -> tuple[list, tuple[int, ...]]:
    """Three turns of a conversation with documents in between."""
    session = engine.start(engine.encode_chat([{"role": "user", "content": question}]))
    turns = []
    for inserted in ("\n(1) [a.pdf#p=1] Part K-40 is replaced by valve V-118, 漢字.\n", " And so the answer", ""):
        turns.append(take_turn(engine, Turn(session, Sampling(max_tokens=12), [". ", "\n"])))
        session.append(engine.encode(inserted))
    return turns, session.ids


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_turns_are_those_of_transformers(served, direct, question):
    there, ids_there = paused_turns(served, question)
    here, ids_here = paused_turns(direct, question)
    assert ids_there == ids_here
    for vllm, transformers in zip(there, here, strict=True):
        assert (vllm.ids, vllm.stop, vllm.matched) == (transformers.ids, transformers.stop, transformers.matched)
        assert vllm.logprobs == pytest.approx(transformers.logprobs, abs=2e-3)


def test_the_end_of_a_message_is_a_token(served, direct):
    prompt = served.encode_chat([{"role": "user", "content": QUESTIONS[0]}])
    turns = [take_turn(engine, Turn(engine.start(prompt), Sampling(max_tokens=60))) for engine in (served, direct)]
    assert turns[0].stop is StopReason.EOS
    assert turns[0].ids == turns[1].ids
    assert served.decode(turns[0].ids[-1:]) == "<|im_end|>"


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_sampled_logprobs_are_of_the_full_softmax_at_the_temperature(served, direct, temperature):
    session = served.start(served.encode("The colour of the sky"))
    turn = take_turn(served, Turn(session, Sampling(temperature=temperature, seed=4, max_tokens=20)))
    with torch.inference_mode():
        logits_T_V = direct.model(torch.tensor([session.ids]), use_cache=False).logits[0].float()
    logprobs_T_V = torch.log_softmax(logits_T_V / temperature, dim=-1)[-len(turn.ids) - 1 : -1]
    assert turn.logprobs == pytest.approx(logprobs_T_V.gather(1, torch.tensor(turn.ids)[:, None])[:, 0].tolist(), abs=2e-3)
    again = served.start(served.encode("The colour of the sky"))
    assert take_turn(served, Turn(again, Sampling(temperature=temperature, seed=4, max_tokens=20))).ids == turn.ids


def test_answers_of_rollouts_are_those_of_transformers(served, direct):
    tasks = [Task(question) for question in QUESTIONS]
    there = dict(run_rollouts(tasks, served, Shelf(), GUIDED, PATIENT))
    here = dict(run_rollouts(tasks, direct, Shelf(), GUIDED, PATIENT))
    for number in here:
        assert there[number].ids == here[number].ids
        assert (there[number].mask, there[number].stop) == (here[number].mask, here[number].stop)
        assert there[number].logprobs == pytest.approx(here[number].logprobs, abs=2e-3)
        assert there[number].parsed.answer == here[number].parsed.answer


def test_resumed_turns_hit_the_prefix_cache(served):
    session = served.start(served.encode_chat([{"role": "user", "content": f"{time.time_ns()} is new. " * 40}]))
    length = len(session.ids)
    before = served.prefix_cache()
    take_turn(served, Turn(session, Sampling(max_tokens=2)))
    first = served.prefix_cache() - before
    session.append(served.encode(" Something that was found."))
    asked = len(session.ids)
    take_turn(served, Turn(session, Sampling(max_tokens=2)))
    second = served.prefix_cache() - before - first
    assert first.queries == length
    assert second.queries == asked
    assert first.hits < length // 2
    assert second.hits >= length - 128  # whole blocks of 128 tokens are kept


def test_adapters_are_taken_while_the_server_runs(served, direct):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = TRAINED.path().parent
    model = AutoModelForCausalLM.from_pretrained(policy_source("embedded"), dtype=torch.float32)
    trained = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()
    merged = TransformersEngine(Policy("trained", "0", trained, direct.tokenizer, "cpu", "float32", "test"), 2048)
    untrained = paused_turns(direct, QUESTIONS[0])[1]
    served.add_adapter("trained", adapter)
    served.use_adapter("trained")
    try:
        there, ids_there = paused_turns(served, QUESTIONS[0])
    finally:
        served.use_adapter(None)
        served.drop_adapter("trained")
    here, ids_here = paused_turns(merged, QUESTIONS[0])
    assert ids_there == ids_here != untrained
    for vllm, transformers in zip(there, here, strict=True):
        assert vllm.logprobs == pytest.approx(transformers.logprobs, abs=2e-3)
    assert paused_turns(served, QUESTIONS[0])[1] == untrained, "without it the base is what it was"


def test_sampled_rollouts_are_exact(served):
    tasks = [Task(question, Sampling(temperature=1.0, seed=n, max_tokens=40)) for n, question in enumerate(QUESTIONS * 4)]
    sent: list[tuple[int, ...]] = []
    send = served._send

    def noted(turn: Turn, seed: int) -> object:
        sent.append(turn.session.ids)
        return send(turn, seed)

    served._send = noted  # type: ignore[method-assign,assignment]
    try:
        rollouts = dict(run_rollouts(tasks, served, Shelf(), REASONING, Budgets(total_tokens=300, seconds=3600)))
    finally:
        served._send = send  # type: ignore[method-assign]
    assert len(rollouts) == 16
    for rollout in rollouts.values():
        whole = rollout.prompt_ids + rollout.ids
        begins = {len(prompt) for prompt in sent if prompt == whole[: len(prompt)]}
        bits = (*[0] * len(rollout.prompt_ids), *rollout.mask)
        starts = {place for place, bit in enumerate(bits) if bit and not bits[place - 1]}
        assert starts <= begins
        assert all(logprob < 0 for logprob, bit in zip(rollout.logprobs, rollout.mask, strict=True) if bit)


def test_a_prompt_that_the_server_refuses_is_a_sentence(served):
    session = served.start(served.encode("the " * 200))
    session.tokens += [10**7]
    with pytest.raises(EngineProblem, match="out of vocabulary"):
        take_turn(served, Turn(session, Sampling(max_tokens=2)))


def test_an_interrupted_turn_leaves_the_server_free(served):
    turn = Turn(served.start(served.encode("Once upon a time")), Sampling(max_tokens=1500))
    turn.interrupt = lambda: StopReason.CANCELLED if len(turn.ids) >= 4 else None
    assert take_turn(served, turn).stop is StopReason.CANCELLED
    for _ in range(100):
        text = served.client.text("/metrics")
        running = next(line for line in text.splitlines() if line.startswith("vllm:num_requests_running"))
        if running.endswith(" 0.0"):
            return
    raise AssertionError(running)


def test_the_chat_engine_on_vllms_chat_api(url, served):
    engine = ChatEngine(HttpClient(f"{url}/v1"), served.model)
    for _, rollout in run_rollouts([Task(question) for question in QUESTIONS[:2]], engine, Shelf(), GUIDED, PATIENT):
        assert rollout.error is None
        assert sum(rollout.mask) > 0
        assert engine.decode(rollout.ids).replace("[end]", "") == rollout.text


IN_PROCESS = """
import json, pathlib, sys
from colsearcher.agent.engine import Sampling, StopReason, Turn, take_turn
from colsearcher.agent.policy_tokenizer import load_tokenizer
from colsearcher.agent.vllm_engine import VllmEngine

if __name__ == "__main__":
    folder = sys.argv[1]
    engine = VllmEngine(load_tokenizer("embedded", folder, offline=True), folder, 2048, dtype="float32", eager=True)
    turns = []
    for question in json.loads(sys.argv[2]):
        session = engine.start(engine.encode_chat([{"role": "user", "content": question}]))
        for inserted in json.loads(sys.argv[3]):
            turn = take_turn(engine, Turn(session, Sampling(max_tokens=12), [". ", chr(10)]))
            turns.append([list(turn.ids), list(turn.logprobs), turn.stop, turn.matched])
            session.append(engine.encode(inserted))
    cancelled = Turn(engine.start(engine.encode("Once upon a time")), Sampling(max_tokens=900))
    cancelled.interrupt = lambda: StopReason.CANCELLED if len(cancelled.ids) >= 4 else None
    take_turn(engine, cancelled)
    sampled = take_turn(engine, Turn(engine.start(engine.encode("The sky")), Sampling(temperature=0.5, seed=1, max_tokens=9)))
    long = [Turn(engine.start(engine.encode("The sky")), Sampling(max_tokens=n)) for n in (20, 5)]
    engine.work(long)
    waits = long[1].ended and not long[0].ended
    take_turn(engine, long[0])
    cache = engine.prefix_cache()
    said = json.dumps({"turns": turns, "cancelled": len(cancelled.ids), "open": engine.llm.has_unfinished_requests(),
        "waits": waits, "long": len(long[0].ids), "sampled": [list(sampled.ids), list(sampled.logprobs)],
        "hits": cache.hits, "queries": cache.queries})
    pathlib.Path(sys.argv[4]).write_text(said)
"""


def in_process(script: str, tmp_path: Path, *arguments: str) -> dict:
    """What a script says that runs vLLM itself."""
    file, out = tmp_path / "in_process.py", tmp_path / "said.json"
    file.write_text(script)
    command = [vllm_process.PYTHON, file, *arguments, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=vllm_process.environment(), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def test_vllm_in_process(direct, tmp_path: Path):
    inserted = ["\n(1) [a.pdf#p=1] Part K-40 is replaced by valve V-118, 漢字.\n" * 12, " And so the answer", ""]
    said = in_process(IN_PROCESS, tmp_path, policy_source("embedded"), json.dumps(QUESTIONS), json.dumps(inserted))
    expected = []
    for question in QUESTIONS:
        session = direct.start(direct.encode_chat([{"role": "user", "content": question}]))
        for text in inserted:
            expected.append(take_turn(direct, Turn(session, Sampling(max_tokens=12), [". ", "\n"])))
            session.append(direct.encode(text))
    for (ids, logprobs, stop, matched), turn in zip(said["turns"], expected, strict=True):
        assert (tuple(ids), stop, matched) == (turn.ids, turn.stop, turn.matched)
        assert logprobs == pytest.approx(turn.logprobs, abs=2e-3)
    assert (said["cancelled"], said["open"], said["waits"], said["long"]) == (4, False, True, 20)
    ids = [*direct.encode("The sky"), *said["sampled"][0]]
    with torch.inference_mode():
        logits_T_V = direct.model(torch.tensor([ids]), use_cache=False).logits[0].float()
    logprobs_T_V = torch.log_softmax(logits_T_V / 0.5, dim=-1)[-10:-1]
    reference = logprobs_T_V.gather(1, torch.tensor(ids[-9:])[:, None])[:, 0].tolist()
    assert said["sampled"][1] == pytest.approx(reference, abs=2e-3)
    assert said["hits"] > 128 * len(QUESTIONS)


SEEING_IN_PROCESS = """
import json, pathlib, sys
from PIL import Image
from colsearcher.agent.engine import Sampling, Turn, take_turn
from colsearcher.agent.policy import picture_cutter
from colsearcher.agent.policy_tokenizer import load_tokenizer
from colsearcher.agent.vllm_engine import VllmEngine

if __name__ == "__main__":
    folder = sys.argv[1]
    cutter = picture_cutter(folder, offline=True)
    tokenizer = load_tokenizer("tiny", folder, offline=True)
    engine = VllmEngine(tokenizer, folder, 2048, dtype="float32", eager=True, cutter=cutter, adapter_rank=8)
    said = []
    hits = 0
    for adapter in (None, "trained"):
        session = engine.start(engine.encode("which page? "))
        for images in json.loads(sys.argv[2]):
            for image in images:
                ids, picture = engine.picture(Image.open(image), 40)
                session.append([*engine.encode(" page "), *ids, *engine.encode(", and so on" * 12)], [picture])
            turn = take_turn(engine, Turn(session, Sampling(max_tokens=8)))
            said.append([list(turn.ids), list(turn.logprobs)])
        if adapter is None:
            hits = engine.prefix_cache().hits
            engine.add_adapter("trained", pathlib.Path(sys.argv[3]))
            engine.use_adapter("trained")
    told = {"turns": said, "ids": list(session.ids), "sees": engine.sees, "hits": hits}
    pathlib.Path(sys.argv[4]).write_text(json.dumps(told))
"""


def drawn(folder: Path) -> list[list[str]]:
    """Pictures before and after what a policy has written, one of them drawn smaller and one a narrow strip."""
    images = []
    for number, size in enumerate([(120, 90), (700, 500), (90, 400), (56, 112)]):
        image = Image.new("RGB", size, "white")
        ImageDraw.Draw(image).ellipse((10, 20, 50 + 10 * number, 70), fill=(40 * number, 90, 200))
        image.save(folder / f"{number}.png")
        images.append(str(folder / f"{number}.png"))
    return [images[:1], images[1:3], images[3:]]


@dataclass(frozen=True)
class Seeing:
    """A policy that sees and an adapter on it, and what transformers writes with the one and with the other.

    Attributes:
        turns: ids and logprobs, those of the adapter last.
        ids: of the adapter's conversation.
    """

    folder: Path
    adapter: Path
    shown: list[list[str]]
    turns: list[tuple[tuple[int, ...], object]]
    ids: tuple[int, ...]


def looked(engine: VllmServerEngine | TransformersEngine, shown: list[list[str]]) -> tuple[list[Generation], tuple[int, ...]]:
    """A turn after each group of pictures."""
    session = engine.start(engine.encode("which page? "))
    turns = []
    for images in shown:
        for image in images:
            tokens, picture = engine.picture(Image.open(image), 40)
            session.append([*engine.encode(" page "), *tokens, *engine.encode(", and so on" * 12)], [picture])
        turns.append(take_turn(engine, Turn(session, Sampling(max_tokens=8))))
    return turns, session.ids


@pytest.fixture
def seeing(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Seeing:
    monkeypatch.setattr(policy_module, "_placement", lambda device: ("cpu", "float32", "test"))
    folder, shown = store(tiny_vision_policy(request.param), tmp_path / "policy"), drawn(tmp_path)
    policy = trainable(str(folder), 8)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)
    save_policy(policy, tmp_path / "adapter")
    expected = [
        looked(TransformersEngine(load_policy(str(place), local=True)), shown) for place in (folder, tmp_path / "adapter")
    ]
    assert expected[0][1] != expected[1][1]
    turns = [(turn.ids, pytest.approx(turn.logprobs, abs=2e-3)) for turns, _ in expected for turn in turns]
    return Seeing(folder, tmp_path / "adapter", shown, turns, expected[1][1])


@pytest.mark.parametrize("seeing", KINDS, indirect=True)
def test_vllm_in_process_sees_what_transformers_sees(seeing, tmp_path: Path):
    said = in_process(SEEING_IN_PROCESS, tmp_path, str(seeing.folder), json.dumps(seeing.shown), str(seeing.adapter))
    assert [(tuple(ids), logprobs) for ids, logprobs in said["turns"]] == seeing.turns
    assert said["sees"] and tuple(said["ids"]) == seeing.ids
    assert said["hits"] >= 128 + 384, "what came before a turn, pictures and all, was in the prefix cache"


@pytest.mark.parametrize("seeing", KINDS, indirect=True)
def test_a_vllm_server_sees_what_transformers_sees(seeing, tmp_path: Path):
    with vllm_process.vllm_server(seeing.folder, tmp_path / "log", *FLAGS, *ADAPTERS, "--enable-scale-out") as address:
        engine = load_engine(str(seeing.folder), address, local=True).engine
        assert isinstance(engine, VllmServerEngine) and engine.sees
        turns, _ = looked(engine, seeing.shown)
        cache = engine.prefix_cache()
        engine.add_adapter("trained", seeing.adapter)
        engine.use_adapter("trained")
        more, ids = looked(engine, seeing.shown)
    assert [(turn.ids, turn.logprobs) for turn in turns + more] == seeing.turns
    assert ids == seeing.ids
    assert cache.hits >= 128 + 384, "what came before a turn, pictures and all, was in the prefix cache"


NEVER_WRITTEN = (
    SEEING_IN_PROCESS.partition("    said = []")[0]
    + """
    turns = [Turn(engine.start(engine.encode(text)), Sampling(max_tokens=8)) for text in ("which page?", "what is")]
    while left := [turn for turn in turns if not turn.ended]:
        engine.work(left)
    told = [[str(turn.failure), len(turn.ids), engine.cutter.pad in turn.ids] for turn in turns]
    pathlib.Path(sys.argv[2]).write_text(json.dumps(told))
"""
)


def test_a_policy_that_writes_what_stands_for_pixels_fails_in_vllm(tmp_path: Path):
    policy = tiny_vision_policy()
    with torch.no_grad():
        policy.model.lm_head.weight[policy.cutter.pad] = policy.model.lm_head.weight.abs().max() * 50
    folder = store(policy, tmp_path / "policy")
    for problem, tokens, written in in_process(NEVER_WRITTEN, tmp_path, str(folder)):
        assert problem == "The policy wrote a token that stands for a part of a picture." and tokens < 8 and not written
