"""The engine of vLLM servers against a real HTTP server that speaks their API with a random model; `test_vllm` has vLLM."""

import copy
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from fake_model_server import CompletionServer
from fake_retriever import Shelf
from PIL import Image
from tiny_policy import tiny_policy, tiny_policy_of
from tiny_vision_policy import tiny_vision_policy

from colsearcher.agent.engine import EngineProblem, Sampling, StopReason, Turn, take_turn
from colsearcher.agent.http_client import HttpClient
from colsearcher.agent.policy import Policy
from colsearcher.agent.policy_tokenizer import PolicyTokenizer
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.record import Budgets, Task
from colsearcher.agent.rollout import run_rollout, run_rollouts
from colsearcher.agent.transformers_engine import TransformersEngine
from colsearcher.agent.vllm_server import VllmServerEngine
from colsearcher.indexes.errors import ModelProblem


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    with CompletionServer() as running:
        yield running


def connect(server: CompletionServer, name: str = "served", context: int | None = None) -> VllmServerEngine:
    tokenizer = PolicyTokenizer("tiny", tiny_policy().tokenizer)
    return VllmServerEngine(HttpClient(server.url), tokenizer, [name], context)


def uncached_logprobs(ids: tuple[int, ...], temperature: float) -> list[float]:
    """Entry t is the logprob of ids[t + 1]."""
    with torch.inference_mode():
        logits_T_V = tiny_policy(2048).model(torch.tensor([ids]), use_cache=False).logits[0].float()
    logprobs_T_V = torch.log_softmax(logits_T_V / (temperature or 1.0), dim=-1)
    return logprobs_T_V[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def after(tokens: int, turn: Turn, reason: StopReason = StopReason.CANCELLED) -> None:
    """Have a turn interrupted after so many tokens."""
    turn.interrupt = lambda: reason if len(turn.ids) >= tokens else None


@pytest.mark.parametrize("per_event", [1, 4])
def test_a_paused_session_is_that_of_transformers(server, per_event):
    server.per_event = per_event
    engine, direct = connect(server), TransformersEngine(tiny_policy(2048))
    prompt = engine.encode_chat([{"role": "user", "content": "the valve <|im_end|>"}])
    assert prompt == direct.encode_chat([{"role": "user", "content": "the valve <|im_end|>"}])
    here, there = direct.start(prompt), engine.start(prompt)
    for inserted in ("<begin> of a document, 漢字", " and another\n", ""):
        heard: list[tuple[int, float]] = []
        turn = Turn(
            there, Sampling(max_tokens=9), on_token=lambda token, logprob, _, heard=heard: heard.append((token, logprob))
        )
        written, expected = take_turn(engine, turn), take_turn(direct, Turn(here, Sampling(max_tokens=9)))
        assert (written.ids, written.stop) == (expected.ids, expected.stop)
        assert written.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert heard == list(zip(written.ids, written.logprobs, strict=True))
        for session in (here, there):
            session.append(engine.encode(inserted))
        assert there.ids == here.ids


def test_what_is_asked_for_leaves_nothing_to_the_servers_defaults(server):
    engine = connect(server)
    session = engine.start(engine.encode("the"))
    take_turn(engine, Turn(session, Sampling(temperature=1.0, seed=3, max_tokens=5), ["</answer>"]))
    asked = server.requests[-1]
    assert asked["prompt"] == engine.encode("the")
    assert asked["return_token_ids"] and asked["include_stop_str_in_output"] and asked["stream"]
    assert (asked["skip_special_tokens"], asked["spaces_between_special_tokens"], asked["add_special_tokens"]) == (False,) * 3
    assert (asked["top_k"], asked["min_p"], asked["repetition_penalty"], asked["presence_penalty"]) == (0, 0, 1, 0)
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"], asked["stop"]) == (1.0, 1.0, 5, ["</answer>"])


def test_the_seed_decides_and_each_turn_has_its_own(server):
    engine = connect(server)
    prompt = engine.encode("the")

    def two_turns(seed: int) -> list[tuple[int, ...]]:
        session = engine.start(prompt)
        sampling = Sampling(temperature=1.0, seed=seed, max_tokens=6)
        return [take_turn(engine, Turn(session, sampling)).ids for _ in range(2)]

    assert two_turns(5) == two_turns(5)
    assert two_turns(5) != two_turns(6)
    seeds = [request["seed"] for request in server.requests if request.get("stream")]
    assert seeds[:2] == seeds[2:4]
    assert len(set(seeds)) == 4


@pytest.mark.parametrize("per_event", [1, 5])
def test_a_turn_stops_at_the_token_that_completes_the_tag(server, per_event):
    server.per_event = per_event
    engine = connect(server)
    free = take_turn(engine, Turn(engine.start(engine.encode("the")), Sampling(max_tokens=40)))
    text = engine.decode(free.ids)
    stop = [text[at : at + 2] for at in range(len(text) - 1) if text[at : at + 2].isascii()][-1]
    session = engine.start(engine.encode("the"))
    turn = take_turn(engine, Turn(session, Sampling(max_tokens=40), [stop, "never"]))
    assert turn.ids == free.ids[: len(turn.ids)]
    assert stop in engine.decode(turn.ids)
    assert stop not in engine.decode(turn.ids[:-1])
    assert (turn.stop, turn.matched) == (StopReason.STOP_STRING, stop)
    assert session.ids == (*engine.encode("the"), *turn.ids)


def test_rollouts_hold_what_was_sent_and_what_came_back(server):
    tasks = [Task(f"Which valve{' or pump' * n}?", Sampling(temperature=1.0, seed=n, max_tokens=20)) for n in range(9)]
    budgets = Budgets(total_tokens=70)
    engine = connect(server)
    together = dict(run_rollouts(tasks, engine, Shelf(), REASONING, budgets, in_flight=5))
    alone = run_rollout(tasks[3].question, engine, Shelf(), REASONING, tasks[3].sampling, budgets)
    assert alone.ids == together[3].ids
    sent = [tuple(request["prompt"]) for request in server.requests if request.get("stream")]
    for rollout in together.values():
        whole = rollout.prompt_ids + rollout.ids
        turns = sorted({prompt for prompt in sent if prompt == whole[: len(prompt)]}, key=len)
        assert turns, "what was sent is what the record begins with"
        begins = [len(prompt) - len(rollout.prompt_ids) for prompt in turns]
        written = [place for place, bit in enumerate(rollout.mask) if bit]
        assert set(begins) == {place for place in written if place == 0 or not rollout.mask[place - 1]}
        reference = uncached_logprobs(whole, 1.0)[len(rollout.prompt_ids) - 1 :]
        expected = [value if bit else 0.0 for value, bit in zip(reference, rollout.mask, strict=True)]
        assert rollout.logprobs == pytest.approx(expected, abs=1e-4)


def test_an_interrupted_turn_is_called_off_at_the_server(server):
    server.pause_s = 0.01
    engine = connect(server)
    session = engine.start(engine.encode("the"))
    turn = Turn(session, Sampling(max_tokens=400))
    after(5, turn)
    written = take_turn(engine, turn)
    assert (len(written.ids), written.stop) == (5, StopReason.CANCELLED)
    assert session.ids == (*engine.encode("the"), *written.ids)
    until = time.monotonic() + 5
    while not server.left and time.monotonic() < until:
        time.sleep(0.01)
    assert server.left == 1
    assert server.sent < 100
    assert take_turn(engine, Turn(session, Sampling(max_tokens=3))).stop is StopReason.TOKEN_BUDGET


def test_a_silent_server_can_be_interrupted(server):
    server.pause_s = 1.0
    engine = connect(server)
    started = time.monotonic()
    turn = Turn(engine.start(engine.encode("the")), Sampling(max_tokens=40))
    turn.interrupt = lambda: StopReason.TIME_BUDGET if time.monotonic() - started > 0.3 else None
    assert take_turn(engine, turn).stop is StopReason.TIME_BUDGET
    assert time.monotonic() - started < 0.9


def test_a_turn_that_is_left_out_only_waits(server):
    engine = connect(server)
    prompt = engine.encode("the")
    expected = take_turn(engine, Turn(engine.start(prompt), Sampling(max_tokens=60)))
    server.pause_s = 0.1
    long, short = (Turn(engine.start(prompt), Sampling(max_tokens=count)) for count in (60, 10))
    engine.work([long, short])
    assert short.ended and not long.ended
    server.pause_s = 0.0
    seen = len(long.ids)
    engine.work([Turn(engine.start(prompt), Sampling(max_tokens=25))])
    assert len(long.ids) == seen
    assert take_turn(engine, long) == expected
    assert len([request for request in server.requests if request.get("stream")]) == 4


def test_the_context_is_never_overrun(server):
    engine = connect(server, context=40)
    session = engine.start(engine.encode("the") * 8)
    turn = take_turn(engine, Turn(session, Sampling(max_tokens=1000)))
    assert turn.stop in (StopReason.CONTEXT_FULL, StopReason.EOS)
    assert len(session.ids) <= 40
    with pytest.raises(ValueError, match="do not fit"):
        session.append([5] * (session.room + 1))
    with pytest.raises(EngineProblem, match="Shorten the question"):
        engine.start([5] * 40)


@pytest.mark.parametrize(
    ("fault", "said", "kept"),
    [
        ("status", "answered 400: The model's context is full.", 0),
        ("error", "failed: out of memory", 2),
        ("break", "broke off in the middle", 2),
    ],
)
def test_a_failing_server_is_an_engine_problem(server, fault, said, kept):
    engine = connect(server)
    server.fault = fault
    session = engine.start(engine.encode("the"))
    turn = Turn(session, Sampling(max_tokens=9))
    with pytest.raises(EngineProblem, match=said):
        take_turn(engine, turn)
    assert len(turn.ids) == kept
    assert session.ids == (*engine.encode("the"), *turn.ids)


def test_a_server_that_goes_away_ends_a_rollout_with_its_reason():
    with CompletionServer() as server:
        engine = connect(server)
    rollout = run_rollout("Which valve?", engine, Shelf(), REASONING)
    assert rollout.stop is StopReason.ENGINE_FAILED
    assert rollout.error is not None
    assert rollout.error.startswith(f"The connection to {server.url} failed: ")


def test_the_server_has_to_serve_the_policy(server):
    assert connect(server, "/models/tiny").model == "served"
    with pytest.raises(ModelProblem, match="serves served, not other"):
        connect(server, "other")
    other = tiny_policy_of("llama").tokenizer
    other.add_tokens(["sky"])
    with pytest.raises(ModelProblem, match="tokenizer is not that of"):
        VllmServerEngine(HttpClient(server.url), PolicyTokenizer("tiny", other), ["served"])


def test_a_server_without_token_ids_is_refused(server):
    server.token_ids = False
    with pytest.raises(ModelProblem, match="returns no token ids"):
        connect(server)


def test_no_server_is_said_in_one_sentence():
    with CompletionServer() as server:
        pass
    with pytest.raises(ModelProblem, match=r"Start one with `vllm serve MODEL"):
        connect(server)


@pytest.mark.parametrize("raw", [True, False])
def test_logprobs_of_another_distribution_are_refused(raw):
    with CompletionServer(raw=raw) as server:
        engine = connect(server)
        assert engine.logprobs_mode == ("raw_logprobs" if raw else "processed_logprobs")
        for sampling, right in (
            (Sampling(max_tokens=4), True),
            (Sampling(temperature=1.0, max_tokens=4), True),
            (Sampling(temperature=0.5, max_tokens=4), not raw),
            (Sampling(temperature=1.0, top_p=0.9, max_tokens=4), raw),
            (Sampling(temperature=0.5, top_p=0.9, max_tokens=4), False),
        ):
            session = engine.start(engine.encode("the"))
            turn = Turn(session, sampling)
            if not right:
                with pytest.raises(EngineProblem, match="logprobs"):
                    take_turn(engine, turn)
                continue
            written = take_turn(engine, turn)
            assert written.logprobs == pytest.approx(uncached_logprobs(session.ids, sampling.temperature)[-4:], abs=1e-4)


def looking(server: CompletionServer, policy: Policy) -> VllmServerEngine:
    return VllmServerEngine(HttpClient(server.url), PolicyTokenizer("tiny", policy.tokenizer), ["served"], None, policy.cutter)


def test_pictures_are_sent_where_they_stand():
    policy = tiny_vision_policy()
    with CompletionServer(policy=policy) as server:
        engine, direct = looking(server, policy), TransformersEngine(policy)
        here, there = (one.start(one.encode("which page? ")) for one in (direct, engine))
        for image in (Image.new("RGB", (700, 500), "navy"), Image.new("RGB", (56, 112), "red")):
            for one, session in ((direct, here), (engine, there)):
                ids, picture = one.picture(image, 40)
                session.append([*ids, *one.encode(", this one")], [picture])
            written, expected = (
                take_turn(one, Turn(session, Sampling(max_tokens=6), ["\x00"]))
                for one, session in ((engine, there), (direct, here))
            )
            assert written.ids == expected.ids and written.stop == expected.stop
            assert written.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert there.ids == here.ids
        sent = server.requests[-1]
        assert sent["token_ids"].count(policy.cutter.pad) == 2 == len(sent["content_parts"]), "one token for each picture"
        assert sent["sampling_params"]["stop_token_ids"] == list(policy.cutter.never_written)


def test_pictures_that_the_server_draws_in_another_size_are_refused():
    policy = tiny_vision_policy()
    with CompletionServer(policy=policy) as server:
        engine = looking(server, policy)
        larger = copy.deepcopy(policy.cutter.processor)
        larger.size = {"shortest_edge": 64 * 28**2, "longest_edge": 128 * 28**2}
        server.engine.cutter = replace(policy.cutter, processor=larger)
        session = engine.start(engine.encode("which page? "))
        ids, picture = engine.picture(Image.new("RGB", (100, 100)), 40)
        session.append(ids, [picture])
        with pytest.raises(EngineProblem, match=r'another size .*--mm-processor-kwargs \'{"size": {"shortest_edge": 3136'):
            take_turn(engine, Turn(session, Sampling(max_tokens=6)))


def test_a_policy_that_writes_what_stands_for_pixels_fails():
    policy = tiny_vision_policy()
    with CompletionServer(policy=policy) as server:
        engine = looking(server, policy)
        with torch.no_grad():
            policy.model.lm_head.weight[policy.cutter.pad] = policy.model.lm_head.weight.abs().max() * 50
        server.engine.cutter = None  # vLLM samples such a token
        turn = Turn(engine.start(engine.encode("what is")), Sampling(max_tokens=30))
        with pytest.raises(EngineProblem, match="stands for a part of a picture"):
            take_turn(engine, turn)
        assert policy.cutter.pad not in turn.ids


def test_prefix_cache_counters_are_summed_over_engines(server):
    cache = connect(server).prefix_cache()
    assert (cache.queries, cache.hits) == (70, 64)
    assert (cache - cache).hits == 0
