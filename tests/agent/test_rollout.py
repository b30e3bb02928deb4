import pytest
from fake_engine import EOS, ScriptedEngine
from fake_retriever import BrokenShelf, Shelf
from hypothesis import given, settings
from hypothesis import strategies as st

from colsearcher.agent.conversation import ALREADY_ASKED, NO_QUERY, NO_SEARCH_LEFT
from colsearcher.agent.engine import Sampling, StopReason
from colsearcher.agent.protocol import GUIDED, REASONING, Protocol
from colsearcher.agent.record import Budgets, Rollout
from colsearcher.agent.rollout import run_rollout

PIECES = [
    "<think>",
    "</think>",
    "<begin_of_query>",
    "<end_of_query>",
    "<begin_of_documents>",
    "<end_of_documents>",
    "<answer>",
    "</answer>",
    "</answer>.",
    "valve K-40",
    "accidents April",
    "\n",
    " ",
    "<",
    "V-118 (1)",
    "ünïcode 漢",
]
GOOD = "I search. <begin_of_query>valve K-40<end_of_query>"
DONE = "</think><answer>V-118</answer>"


def roll(turns, protocol: Protocol = REASONING, question="Which valve replaces part K-40?", retriever=None, **options):
    engine = options.pop("engine", None) or ScriptedEngine(turns)
    rollout = run_rollout(question, engine, retriever or Shelf(), protocol, Sampling(), **options)
    check(rollout, engine)
    return rollout


def check(rollout: Rollout, engine: ScriptedEngine) -> None:
    """The one invariant: mask 1 exactly where the engine sampled, and the ids are what the engine saw."""
    assert len(rollout.ids) == len(rollout.mask) == len(rollout.logprobs)
    if not engine.sessions:
        assert rollout.ids == ()
        return
    (session,) = engine.sessions
    assert rollout.prompt_ids + rollout.ids == session.ids
    offset = len(rollout.prompt_ids)
    assert [place for place, bit in enumerate(rollout.mask, offset) if bit] == [place for place, _ in session.sampled]
    assert [token for token, bit in zip(rollout.ids, rollout.mask, strict=True) if bit] == [t for _, t in session.sampled]
    assert all(lp == (-0.5 if bit else 0.0) for lp, bit in zip(rollout.logprobs, rollout.mask, strict=True))
    assert rollout.text == engine.decode(rollout.ids).removesuffix("<eos>") or EOS in rollout.ids
    for segment in rollout.segments:
        if segment.source == "documents":
            assert segment.text.strip().startswith("<begin_of_documents>")
            assert segment.text.strip().endswith("<end_of_documents>")


scripts = st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    turns=scripts,
    protocol=st.sampled_from([REASONING, GUIDED]),
    context=st.sampled_from([200, 1500, 3000, 4000, 100_000]),
    total=st.sampled_from([1, 30, 200, 700, 4096]),
    searches=st.integers(0, 3),
    fail_at=st.sampled_from([None, None, 1, 2]),
)
def test_the_mask_is_exact_whatever_the_policy_writes(turns, protocol, context, total, searches, fail_at):
    engine = ScriptedEngine(turns, context, fail_at)
    rollout = roll(turns, protocol, engine=engine, budgets=Budgets(total_tokens=total, searches=searches))
    assert len(rollout.ids) <= total
    assert sum(search.notice is None for search in rollout.searches) <= searches
    assert isinstance(rollout.stop, StopReason)


def test_search_then_answer():
    events = []
    shelf = Shelf()
    rollout = roll([GOOD, DONE], retriever=shelf, on_event=lambda kind, data: events.append((kind, data)))
    assert rollout.stop is StopReason.ANSWERED
    assert rollout.parsed.answer == "V-118"
    assert rollout.parsed.problems == () and not rollout.parsed.scaffolded
    assert shelf.asked == ["valve K-40"]
    kinds = [kind for kind, _ in events if kind != "token"]
    assert kinds == ["prompt", "written", "turn", "query", "hits", "written", "turn", "stop"]
    assert [data["id"] for kind, data in events if kind == "token"] == [
        token for token, bit in zip(rollout.ids, rollout.mask, strict=True) if bit
    ]
    assert "".join(data["text"] for kind, data in events if kind == "token") == GOOD + DONE


def test_a_later_search_shows_new_pages_and_numbers_run_on():
    rollout = roll([GOOD, "<begin_of_query>torque of valve V-118<end_of_query>", DONE], budgets=Budgets(documents=2))
    first, second = rollout.searches
    assert (first.first, second.first) == (1, 3)
    assert not {page.address for page in first.passages} & {page.address for page in second.passages}
    assert "\n(3) [" in rollout.text


def test_a_repeated_query_is_answered_by_a_notice():
    shelf = Shelf()
    rollout = roll([GOOD, "again <begin_of_query> Valve K-40 <end_of_query>", DONE], retriever=shelf)
    assert shelf.asked == ["valve K-40"]
    assert rollout.searches[1].notice == ALREADY_ASKED
    assert rollout.stop is StopReason.ANSWERED


def test_an_empty_query_is_answered_by_a_notice():
    rollout = roll(["<begin_of_query> <end_of_query>", DONE])
    assert rollout.searches[0].notice == NO_QUERY


def test_after_the_last_search_the_policy_is_told_and_gets_one_turn():
    turns = [f"<begin_of_query>query {number}<end_of_query>" for number in range(9)]
    rollout = roll(turns, budgets=Budgets(searches=2))
    assert rollout.stop is StopReason.SEARCH_BUDGET
    assert [search.notice for search in rollout.searches] == [None, None, NO_SEARCH_LEFT]
    answered = roll([*turns[:3], DONE], budgets=Budgets(searches=2))
    assert answered.stop is StopReason.ANSWERED


@pytest.mark.parametrize(
    ("turns", "stop"),
    [
        ([], StopReason.EOS),
        (["just talking"], StopReason.EOS),
        (["a<end_of_query>"], StopReason.FORMAT_BROKEN),
        (["<begin_of_documents>"], StopReason.FORMAT_BROKEN),
        (["x</answer>"], StopReason.FORMAT_BROKEN),
        (["<answer>V-118</answer>"], StopReason.ANSWERED),
        (["x" * 600], StopReason.TOKEN_BUDGET),
    ],
)
def test_a_policy_that_breaks_the_format_ends_with_a_reason(turns, stop):
    assert roll(turns).stop is stop


def test_a_failed_engine_keeps_what_was_written():
    rollout = roll([GOOD, DONE], engine=ScriptedEngine([GOOD, DONE], fail_at=2))
    assert rollout.stop is StopReason.ENGINE_FAILED
    assert rollout.error == "out of memory"
    assert rollout.segments[-1].text == DONE[:3]


def test_a_failed_retriever_is_a_stop_reason():
    rollout = roll([GOOD, DONE], retriever=BrokenShelf())
    assert rollout.stop is StopReason.RETRIEVER_FAILED
    assert "damaged" in rollout.error


def test_a_prompt_that_does_not_fit_is_a_stop_reason():
    assert roll([], engine=ScriptedEngine([], context=10)).stop is StopReason.ENGINE_FAILED


def test_cancelled_and_out_of_time():
    assert roll([GOOD], cancelled=lambda: True).stop is StopReason.CANCELLED
    assert roll([GOOD], budgets=Budgets(seconds=-1)).stop is StopReason.TIME_BUDGET


def test_guided_the_environment_writes_the_tags_and_says_so():
    rollout = roll(["valve K-40\n", "Valve V-118 replaces it.\n"], GUIDED)
    assert rollout.stop is StopReason.ANSWERED
    assert rollout.parsed.scaffolded
    assert rollout.parsed.problems == ()
    assert rollout.parsed.queries == ("valve K-40",)
    assert rollout.parsed.answer == "Valve V-118 replaces it."
    assert [segment.text for segment in rollout.segments if segment.source == "policy"] == [
        "valve K-40\n",
        "Valve V-118 replaces it.\n",
    ]


def test_guided_an_answer_that_runs_on_is_closed_and_reported():
    rollout = roll(["valve K-40<end_of_query>", "blah " * 100], GUIDED)
    assert rollout.stop is StopReason.TOKEN_BUDGET
    assert rollout.parsed.answer == ("blah " * 100)[: GUIDED.answer_tokens].strip()


def test_guided_shows_the_best_page_next_to_the_answer():
    (search,) = roll(["valve K-40\n", "V-118\n"], GUIDED).searches
    scores = [passage.score for passage in search.passages]
    assert scores == sorted(scores) and scores[0] < scores[-1]
    (search, *_) = roll([GOOD, DONE]).searches
    assert [passage.score for passage in search.passages] == scores[::-1]
