"""From a rollout to an answer that can be checked: citations, and the decision not to answer.

Every check is about words and numbers on retrieved pages; none of them understands the answer. They catch what a page does
not say; they do not catch a wrong reading of a page that says something similar. What the policy wrote is never replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

from colsearcher.agent.calibration import Calibration, Confidence
from colsearcher.agent.record import Rollout
from colsearcher.agent.retriever import Passage
from colsearcher.agent.wording import STOPWORDS, is_number, terms, tokens
from colsearcher.indexes.address import Address

QUESTION_COVERAGE = 0.5
"""The retrieved pages must hold this share of the question's terms (by weight), or the corpus is about something else. A
calibration, where there is one, decides in its place."""

SHORT = 5  # an answer of so many words has to stand on the page as it is
LONG_COVERAGE = 0.7  # of a longer one every number, and this share of its words and of those that the question lacks

Weight = Callable[[str], float]

_NUMBER_CITED = re.compile(r"\((\d{1,3})\)|\[(\d{1,3})\]")
_ADMITS = re.compile(
    r"\W*(?:(?:sorry|i'm sorry|the documents)\W.{0,40})?\b(?:(?:i )?(?:do not|don't|don’t|does not) (?:know|say|state|mention)"
    r"|not (?:found|given|stated|mentioned|specified|known|in the documents)|unknown|no answer)\b",
    re.IGNORECASE,
)
"""At the beginning of an answer only: «V-118, colour not stated» is an answer."""


@dataclass(frozen=True)
class Answer:
    """What is shown to the reader.

    Attributes:
        text: the policy's answer, None when there is none to give.
        abstained: no answer is given; `reason` says why.
        written: what the policy wrote as its answer, whether it is given or not; None if it wrote none.
        unsupported: it wrote an answer that no retrieved page supports.
        citations: pages retrieved in this rollout that support the answer, best first. Empty when abstained.
        nearest: when abstained, the pages that came nearest, best first.
        confidence: what was measured of the answer, None where none was written or no page retrieved.
        sound: it says something that a retrieved page says; whether it is given is then up to the threshold.
        probability: that it is right, by the calibration; None without one.
    """

    text: str | None
    abstained: bool
    reason: str | None
    written: str | None
    unsupported: bool
    citations: tuple[Address, ...]
    nearest: tuple[Address, ...]
    confidence: Confidence | None = None
    sound: bool = False
    probability: float | None = None

    def as_json(self) -> dict[str, object]:
        """The same as JSON values, addresses as text."""
        return {
            "answer": self.text,
            "abstained": self.abstained,
            "reason": self.reason,
            "written": self.written,
            "unsupported": self.unsupported,
            "citations": [str(address) for address in self.citations],
            "nearest": [str(address) for address in self.nearest],
            "confidence": None if self.confidence is None else asdict(self.confidence),
            "probability": None if self.probability is None else round(self.probability, 4),
        }


def make_answer(rollout: Rollout, weight: Weight = lambda term: 1.0, calibration: Calibration | None = None) -> Answer:
    """Check a rollout's answer against the pages it retrieved.

    Args:
        weight: of a question term, for example its inverse document frequency in the corpus.
        calibration: decides whether a sound answer is given; without one `QUESTION_COVERAGE` does.
    """
    pages = {number: page for search in rollout.searches for number, page in enumerate(search.passages, search.first)}
    written = rollout.parsed.answer
    ranked = sorted(pages.values(), key=lambda page: -coverage(rollout.question, [page], weight))
    nearest = tuple(page.address for page in ranked)
    if written is None:
        reason = rollout.error or f"The policy gave no answer ({rollout.stop.value.replace('_', ' ')})."
        return Answer(None, True, reason, None, False, (), nearest)
    if _ADMITS.match(written):
        return Answer(None, True, "The policy says that it does not know.", written, False, (), nearest)
    if not pages:
        return Answer(None, True, "No page was retrieved, so nothing supports the answer.", written, True, (), ())
    measured = Confidence(
        round(coverage(rollout.question, ranked, weight), 4),
        round(max(support_share(page.text, written, rollout.question) for page in ranked), 4),
        round(last_turn_logprob(rollout), 4),
    )
    supporting = [page for page in ranked if supports(page.text, written, rollout.question)]
    says_something = _says_something_new(written, rollout.question)
    sound = says_something and bool(supporting)
    probability = calibration.probability(measured) if calibration else None

    def abstain(reason: str, unsupported: bool = True) -> Answer:
        return Answer(None, True, reason, written, unsupported, (), nearest, measured, sound, probability)

    if calibration is None and measured.coverage < QUESTION_COVERAGE:
        return abstain("The pages that were found do not cover the question.")
    if not says_something:
        return abstain("The answer only repeats the question.")
    if not supporting:
        return abstain("No retrieved page says what the policy answered.")
    if calibration is not None and probability is not None and probability < calibration.threshold:
        return abstain(
            f"A page says it, but it is right with a probability of {probability:.2f} only, and answers are given from "
            f"{calibration.threshold:.2f} on.",
            unsupported=False,
        )
    cited = _cited(written, pages)
    best = coverage(rollout.question, supporting[:1], weight)
    near = [page for page in supporting if page in cited or coverage(rollout.question, [page], weight) >= 0.8 * best]
    near.sort(key=lambda page: page not in cited)
    citations = tuple(page.address for page in near)
    return Answer(written, False, None, written, False, citations, (), measured, sound, probability)


def last_turn_logprob(rollout: Rollout) -> float:
    """Mean logprob of the policy's last turn: its answer, and of a policy that reasons the thoughts before it; 0.0 for none."""
    turn: list[float] = []
    for written, logprob in zip(reversed(rollout.mask), reversed(rollout.logprobs), strict=True):
        if written:
            turn.append(logprob)
        elif turn:
            break
    return sum(turn) / len(turn) if turn else 0.0


def support_share(page: str, answer: str, question: str = "") -> float:
    """The share of what the answer adds to the question that stands on the page, of all its words if it adds nothing.

    >>> support_share("Valve V-118 is made of brass.", "The valve V-118 is made of steel.", "What is the valve V-118 made of?")
    0.0
    >>> support_share("Revenue rose to 1,577 million euros.", "1577 million dollars")
    0.6666666666666666
    """
    content = {token for token in _bare(without_citations(answer)) if token not in STOPWORDS}
    claim = content - set(tokens(question)) or content
    return len(claim & set(_bare(page))) / len(claim) if claim else 0.0


def coverage(question: str, pages: list[Passage], weight: Weight = lambda term: 1.0) -> float:
    """Weighted share of the question's terms that stand on the pages taken together; 1.0 for a question without any.

    >>> page = Passage(Address("a.pdf", 1), "Valve V-118 replaces part K-40.", 1.0)
    >>> coverage("Which valve replaces part K-41?", [page])
    0.75
    """
    wanted = set(terms(question))
    there = {term for page in pages for term in terms(page.text)}
    total = sum(weight(term) for term in wanted)
    return sum(weight(term) for term in wanted & there) / total if total > 0 else 1.0


def supports(page: str, answer: str, question: str = "") -> bool:
    """Whether the page says the answer: a short one word for word, of a longer one every number and most words.

    Of a longer answer the words that do not come from the question are its claim, so most of them must be there as well.

    >>> supports("Revenue rose to 1,577 million euros.", "1577 million")
    True
    >>> supports("Revenue rose to 1,577 million euros.", "1,578 million")
    False
    """
    wanted, there = _bare(without_citations(answer)), _bare(page)
    if not wanted:
        return False
    if len(wanted) <= SHORT:
        return any(there[start : start + len(wanted)] == wanted for start in range(len(there) - len(wanted) + 1))
    if any(is_number(token) and token not in there for token in wanted):
        return False
    content = {token for token in wanted if token not in STOPWORDS}
    claim = content - set(tokens(question))
    return all(len(words & set(there)) >= LONG_COVERAGE * len(words) for words in (content, claim))


def _bare(text: str) -> list[str]:
    return [token for token in tokens(text) if token not in ("a", "an", "the")]


def _says_something_new(answer: str, question: str) -> bool:
    """A word or number that the question does not hold, unless the question offers a choice."""
    words = tokens(question)
    return "or" in words or any(token not in words and token not in STOPWORDS for token in _bare(answer))


def _cited(answer: str, pages: dict[int, Passage]) -> list[Passage]:
    """Pages that the answer names by number or by address. What was not retrieved in this rollout is not among them."""
    numbers = {int(a or b) for a, b in _NUMBER_CITED.findall(answer)}
    return [page for number, page in pages.items() if number in numbers or _names(answer, page.address)]


def _names(answer: str, address: Address) -> bool:
    return re.search(re.escape(str(address)) + r"(?!\d)", answer) is not None


def without_citations(answer: str) -> str:
    """The answer without page numbers in brackets and addresses."""
    answer = re.sub(r"\[?\S+#p=\d+(?:&box=[\d.,]+)?\]?", " ", answer)
    return _NUMBER_CITED.sub(" ", answer)
