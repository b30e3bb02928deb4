import pytest
from fake_engine import ScriptedEngine
from fake_retriever import Shelf

from colsearcher.agent.answer import make_answer, supports
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.rollout import run_rollout


def ask(question: str, query: str, answer: str):
    turns = [f"<begin_of_query>{query}<end_of_query>", f"</think><answer>{answer}</answer>"]
    return make_answer(run_rollout(question, ScriptedEngine(turns), Shelf(), REASONING))


def cited(answer) -> list[str]:
    return [str(address) for address in answer.citations]


VALVE = ("Which valve replaces part K-40?", "valve replaces K-40")


def test_an_answer_that_stands_on_a_page_is_cited():
    answer = ask(*VALVE, "V-118")
    assert answer.text == "V-118"
    assert cited(answer) == ["pump.pdf#p=12"]
    assert not answer.abstained and not answer.unsupported


def test_numbers_are_compared_as_numbers():
    answer = ask("What was revenue in the Northern region in 2025?", "revenue Northern region 2025", "12480")
    assert cited(answer) == ["report.pdf#p=3"]


def test_what_no_page_says_is_not_given_but_shown():
    answer = ask(*VALVE, "V-999")
    assert (answer.text, answer.abstained, answer.unsupported, answer.written) == (None, True, True, "V-999")
    assert "No retrieved page" in answer.reason
    assert answer.citations == ()
    assert str(answer.nearest[0]) == "pump.pdf#p=12"


@pytest.mark.parametrize("invented", ["V-999 (1)", "V-999 [pump.pdf#p=12]", "V-999 (7)", "V-999 [secret.pdf#p=1]"])
def test_naming_a_page_does_not_make_it_support_an_answer(invented: str):
    assert ask(*VALVE, invented).abstained


def test_only_retrieved_pages_are_cited():
    answer = ask(*VALVE, "V-118 [secret.pdf#p=1] (9)")
    assert cited(answer) == ["pump.pdf#p=12"]


def test_the_page_that_the_policy_names_comes_first():
    question = ("Which valve has parts data?", "valve parts data")
    pages = {"pump.pdf#p=12", "pump.pdf#p=13"}
    assert set(cited(ask(*question, "V-118"))) == pages
    for number in (1, 2):
        answer = ask(*question, f"V-118 ({number})")
        assert set(cited(answer)) == pages
        assert cited(answer)[0] == str(answer_page(question, number))


def answer_page(question: tuple[str, str], number: int):
    return Shelf().search([question[1]], 3)[0][number - 1].address


def test_a_longer_answer_needs_its_claim_on_the_page():
    revenue = ("What was revenue in the Northern region in 2025?", "revenue Northern region 2025")
    assert ask(*revenue, "The Northern region was the largest region in 2025.").abstained
    assert not ask(*revenue, "Revenue in the Northern region was 12,480 thousand in 2025.").abstained


def test_an_answer_that_only_repeats_the_question():
    answer = ask("Which valve replaces part K-40?", "valve replaces K-40", "The valve that replaces part K-40.")
    assert answer.abstained
    assert answer.reason == "The answer only repeats the question."


def test_a_question_about_something_else_is_not_answered():
    answer = ask("Who is the mayor of Copenhagen?", "mayor of Copenhagen board", "Helena Voss")
    assert answer.abstained and answer.unsupported
    assert "do not cover the question" in answer.reason
    assert answer.written == "Helena Voss"


@pytest.mark.parametrize(
    "words", ["I don't know.", "No answer.", "Not stated in the documents", "The documents do not say it."]
)
def test_the_policy_may_say_that_it_does_not_know(words: str):
    answer = ask(*VALVE, words)
    assert answer.abstained and not answer.unsupported
    assert answer.reason == "The policy says that it does not know."


def test_a_doubt_at_the_end_is_part_of_an_answer():
    assert "does not know" not in (ask(*VALVE, "V-118, torque not stated").reason or "")


def test_no_answer_at_all():
    answer = make_answer(run_rollout("Which valve?", ScriptedEngine(["hello"]), Shelf(), REASONING))
    assert answer.abstained and answer.written is None
    assert answer.reason == "The policy gave no answer (eos)."


def test_without_a_search_nothing_supports_an_answer():
    rollout = run_rollout(VALVE[0], ScriptedEngine(["</think><answer>V-118</answer>"]), Shelf(), REASONING)
    assert make_answer(rollout).reason == "No page was retrieved, so nothing supports the answer."


@pytest.mark.parametrize(
    ("page", "answer", "expected"),
    [
        ("The price is 1,577 euros.", "1577 euros", True),
        ("The price is 1,577 euros.", "1577.0", True),
        ("The price is 1,577 euros.", "577", False),
        ("The price is 21,577 euros.", "1,577", False),
        ("Paris, then London, then Rome", "Rome Paris", False),
        ("Valve V-118 replaces part K-40.", "the V-118.", True),
        ("Valve V-118 replaces part K-40.", "Part K-40 is replaced by the new valve V-118", True),
        ("Part K-40 is replaced by valve V-118.", "The part K-40 is replaced by the valve V-118", True),
        ("Part K-40 is replaced by valve V-118.", "The part K-40 is replaced by the valve V-119", False),
        ("Part K-40 is replaced by valve V-118.", "The solar panel S-9 is replaced by the valve V-118", False),
        ("anything", "", False),
        ("anything", "the", False),
    ],
)
def test_supports(page: str, answer: str, expected: bool):
    assert supports(page, answer) is expected
