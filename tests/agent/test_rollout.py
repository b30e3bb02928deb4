import random

import pytest
from fake_engine import EOS, PAD, ScriptedEngine, ScriptedSession
from fake_retriever import BrokenShelf, Gallery, Shelf
from hypothesis import given, settings
from hypothesis import strategies as st

from colsearcher.agent.conversation import ALREADY_ASKED, NO_LOOK_LEFT, NO_QUERY, NO_SEARCH_LEFT, NO_SUCH_PLACE, NOT_SEEN
from colsearcher.agent.engine import Sampling, StopReason
from colsearcher.agent.protocol import GUIDED, REASONING, SEEING, Protocol
from colsearcher.agent.record import Budgets, Rollout, Task
from colsearcher.agent.rollout import run_rollout, run_rollouts
from colsearcher.indexes.errors import FileProblem, IndexProblem

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
    "<look>",
    "</look>",
    "<look>pump.pdf#p=12&box=0.1,0.1,0.5,0.5</look>",
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
    check_session(rollout, session)


def check_session(rollout: Rollout, session: ScriptedSession) -> None:
    engine = session.engine
    assert session.closed
    assert [picture.picture for picture in rollout.pictures] == session.seen
    for shown in rollout.pictures:
        assert set(rollout.ids[shown.at : shown.at + shown.picture.tokens]) == {PAD}
    assert rollout.ids.count(PAD) == sum(shown.picture.tokens for shown in rollout.pictures)
    assert rollout.prompt_ids + rollout.ids == session.ids
    offset = len(rollout.prompt_ids)
    assert [place for place, bit in enumerate(rollout.mask, offset) if bit] == [place for place, _ in session.sampled]
    assert [token for token, bit in zip(rollout.ids, rollout.mask, strict=True) if bit] == [t for _, t in session.sampled]
    assert all(lp == (-0.5 if bit else 0.0) for lp, bit in zip(rollout.logprobs, rollout.mask, strict=True))
    if EOS not in rollout.ids and not rollout.pictures:
        assert rollout.text == engine.decode(rollout.ids)
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


def test_thousands_of_rollouts_side_by_side_each_keep_their_own_record():
    """Mask 1 exactly on what the engine sampled, 0 on all that was put in, and the ids are those that the engine saw."""
    rng = random.Random(11)
    texts = [*PIECES, GOOD, DONE, "<look>report.pdf#p=6</look>", "<begin_of_query>revenue of the northern region<end_of_query>"]
    stops = set()
    for batch in range(30):
        scripts = [["".join(rng.choices(texts, k=rng.randrange(5))) for _ in range(rng.randrange(6))] for _ in range(100)]
        engine = ScriptedEngine(scripts, sees=batch % 2 == 0)
        budgets = Budgets(total_tokens=rng.choice([300, 1500, 6000]), searches=rng.choice([0, 1, 3]), looks=1)
        tasks = [Task(f"Question {number}?") for number in range(100)]
        protocol = [REASONING, SEEING, GUIDED][batch % 3]
        done = dict(run_rollouts(tasks, engine, Shelf(), protocol, budgets, viewer=Gallery(), in_flight=17))
        assert sorted(done) == list(range(100)) and len(engine.sessions) == 100
        for number, rollout in done.items():
            check_session(rollout, engine.sessions[number])
            assert sum(rollout.mask) == len(engine.sessions[number].sampled)
            assert len(rollout.ids) <= budgets.total_tokens
            stops.add(rollout.stop)
    assert {StopReason.ANSWERED, StopReason.EOS, StopReason.FORMAT_BROKEN, StopReason.TOKEN_BUDGET} <= stops


def test_searches_of_a_step_are_one_batch():
    class Counting(Shelf):
        def search(self, queries, k):
            sizes.append(len(queries))
            return super().search(queries, k)

    sizes: list[int] = []
    engine = ScriptedEngine([GOOD, DONE])
    rollouts = [rollout for _, rollout in run_rollouts([Task("Which valve?")] * 12, engine, Counting(), REASONING)]
    assert [rollout.stop for rollout in rollouts] == [StopReason.ANSWERED] * 12
    assert max(sizes) == 12


def test_one_failed_search_ends_its_own_rollout_only():
    class Picky(Shelf):
        def search(self, queries, k):
            if any("broken" in query for query in queries):
                raise IndexProblem("The index is damaged.")
            return super().search(queries, k)

    bad = "<begin_of_query>broken<end_of_query>"
    engine = ScriptedEngine([[GOOD, DONE], ["wait for it " + bad, DONE], [GOOD, DONE]])
    done = dict(run_rollouts([Task("Which valve?")] * 3, engine, Picky(), REASONING))
    assert [done[n].stop for n in range(3)] == [StopReason.ANSWERED, StopReason.RETRIEVER_FAILED, StopReason.ANSWERED]


@pytest.mark.parametrize("in_flight", [1, 2, 9])
def test_every_task_is_done_though_all_that_are_open_end_with_their_search(in_flight):
    engine = ScriptedEngine([GOOD, DONE])
    done = dict(run_rollouts([Task("Which valve?")] * 5, engine, BrokenShelf(), REASONING, in_flight=in_flight))
    assert [done[number].stop for number in range(5)] == [StopReason.RETRIEVER_FAILED] * 5


def test_leaving_the_loop_early_closes_every_conversation():
    engine = ScriptedEngine([[DONE], [GOOD * 50], [GOOD * 50]])
    rollouts = run_rollouts([Task("Which valve?")] * 3, engine, Shelf(), REASONING)
    next(rollouts)
    rollouts.close()
    assert all(session.closed for session in engine.sessions)


@pytest.mark.parametrize("sees", [True, False])
def test_a_look_shows_a_part_of_a_found_page(sees):
    looks = ["<look>pump.pdf#p=12&box=0.1,0.1,0.5,0.5</look>", "<look>other.pdf#p=1</look>", "<look>there</look>", DONE]
    gallery = Gallery()
    engine = ScriptedEngine([GOOD, *looks], sees=sees)
    rollout = roll([], SEEING, engine=engine, viewer=gallery, budgets=Budgets(total_tokens=9000))
    assert rollout.stop is StopReason.ANSWERED and rollout.parsed.problems == ()
    assert [look.notice for look in rollout.looks] == [None, NOT_SEEN, NO_SUCH_PLACE]
    assert str(rollout.looks[0].place) == "pump.pdf#p=12&box=0.1,0.1,0.5,0.5"
    shown = [str(one.place) for one in rollout.pictures]
    found = [str(page.address) for page in rollout.searches[0].passages]
    assert shown == ([*found, "pump.pdf#p=12&box=0.1,0.1,0.5,0.5"] if sees else [])
    assert ("words of pump.pdf#p=12&box=" in rollout.text) == (not sees)
    again = roll([], SEEING, engine=ScriptedEngine([GOOD, *[looks[0]] * 3, DONE]), viewer=gallery, budgets=Budgets(looks=1))
    assert [look.notice for look in again.looks] == [None, NO_LOOK_LEFT, NO_LOOK_LEFT]


@pytest.mark.parametrize("sees", [True, False])
def test_what_is_looked_at_has_the_number_of_its_page(sees):
    more = "<begin_of_query>chair of the board<end_of_query>"
    looks = ["<look>report.pdf#p=6&box=0,0,1,0.5</look>", "<look>pump.pdf#p=12</look>"]
    engine = ScriptedEngine([GOOD, more, *looks, DONE], sees=sees)
    rollout = roll([], SEEING, engine=engine, viewer=Gallery(), budgets=Budgets(total_tokens=9000))
    numbers = {str(page.address): n for s in rollout.searches for n, page in enumerate(s.passages, s.first)}
    assert numbers["report.pdf#p=6"] > 3 and numbers["pump.pdf#p=12"] == 1
    part, whole = [segment.text for segment in rollout.segments if segment.source == "documents"][-2:]
    assert f"\n({numbers['report.pdf#p=6']}) [report.pdf#p=6&box=" in part
    assert "\n(1) [pump.pdf#p=12] " in whole


def test_words_that_cannot_be_read_end_the_rollout_with_the_reason():
    class Damaged(Gallery):
        def text(self, place):
            raise IndexProblem("The index is damaged. Run colsearcher verify.")

    engine = ScriptedEngine([GOOD, "<look>pump.pdf#p=12</look>", DONE])
    rollout = roll([], SEEING, engine=engine, viewer=Damaged())
    assert (rollout.stop, rollout.error) == (StopReason.RETRIEVER_FAILED, "The index is damaged. Run colsearcher verify.")
    assert rollout.text.endswith("</look>")


def test_a_page_that_cannot_be_drawn_ends_the_rollout_with_the_reason():
    class Gone(Gallery):
        def picture(self, place):
            raise FileProblem("pump.pdf is gone; put it back.")

    rollout = roll([], SEEING, engine=ScriptedEngine([GOOD, DONE], sees=True), viewer=Gone())
    assert (rollout.stop, rollout.error) == (StopReason.RETRIEVER_FAILED, "pump.pdf is gone; put it back.")


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
