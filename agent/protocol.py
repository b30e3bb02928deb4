"""The language between policy and environment: tags, prompt, and how documents are put back.

    <think> … <begin_of_query> … <end_of_query>
    <begin_of_documents> (1) [report.pdf#p=12] … <end_of_documents> … </think> <answer> … </answer>

After R1-Searcher (Song et al., 2025); documents are the words of pages, or their pictures for a policy that sees. With
`<look>report.pdf#p=12&box=0.1,0.2,0.5,0.4</look>` a policy asks to see a page that it has found, or a part of it, larger
(after VRAG-RL, Wang et al., 2025). Left out: reading a transcript back (`parser`), when to stop and what to insert
(`rollout`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from colsearcher.agent.engine import Message
from colsearcher.agent.excerpt import excerpt
from colsearcher.agent.retriever import Passage

THINK, END_THINK = "<think>", "</think>"
BEGIN_QUERY, END_QUERY = "<begin_of_query>", "<end_of_query>"
BEGIN_DOCUMENTS, END_DOCUMENTS = "<begin_of_documents>", "<end_of_documents>"
LOOK, END_LOOK = "<look>", "</look>"
ANSWER, END_ANSWER = "<answer>", "</answer>"
TAGS = (THINK, END_THINK, BEGIN_QUERY, END_QUERY, LOOK, END_LOOK, BEGIN_DOCUMENTS, END_DOCUMENTS, ANSWER, END_ANSWER)

# Wider than what `parser.parse` accepts, so that nothing that looks like a tag reaches the policy from outside.
_LOOKS_LIKE_TAG = re.compile(
    r"<(\s*\|?\s*/?\s*(?:think|answer|look|(?:begin|end)_of_(?:query|documents))\s*\|?\s*)>", re.IGNORECASE
)

Variant = Literal["reasoning", "guided"]


def escape(text: str) -> str:
    """Make text from outside harmless: what looks like a tag gets other brackets.

    >>> escape("see </answer> and <b>")
    'see ‹/answer› and <b>'
    """
    return _LOOKS_LIKE_TAG.sub(r"‹\1›", text)


def format_documents(passages: Sequence[Passage], query: str, budget: int, count: Callable[[str], int], first: int = 1) -> str:
    """The block that answers a query: one numbered line per passage, cut to the budget line by line.

    Args:
        budget: tokens for all lines together; what a short page leaves over goes to the next ones. The tags come on top.
        count: tokens of a text.
        first: number of the first line. Numbers run on over the searches of one rollout, so that `(4)` means one page.
    """
    lines = []
    for number, passage in enumerate(passages, start=first):
        head = f"({number}) [{escape(str(passage.address))}] "
        share = budget // (first + len(passages) - number)
        line = head + excerpt(escape(passage.text), query, share - count(head) - 1, count)
        lines.append(line)
        budget -= count(line) + 1
    return "\n".join([BEGIN_DOCUMENTS, *lines, END_DOCUMENTS])


def format_notice(text: str) -> str:
    """A message of the environment in place of documents."""
    return "\n".join([BEGIN_DOCUMENTS, text, END_DOCUMENTS])


@dataclass(frozen=True)
class Protocol:
    """How a policy is spoken to.

    Attributes:
        variant: `reasoning` is R1-Searcher's: the policy writes everything after `<think>`. `guided` is for a small policy
            that was not trained for it: the environment writes the tags (marked as scaffold, never as the policy's), and
            the policy fills in each query and the answer.
        system: the system message.
        examples: worked examples as (question, transcript) pairs, shown as earlier turns of the chat.
        opening: what the assistant's turn begins with; the environment writes it.
        reminder: guided only; what the environment writes after the documents, with `{question}` in it.
        looks: the policy may `<look>` at a part of a page.
        best_last: show the best page of a search last, next to where the answer is written, instead of first.
        query_tokens, answer_tokens: guided only, at most so many tokens for each.
    """

    variant: Variant
    system: str
    examples: tuple[tuple[str, str], ...] = ()
    opening: str = THINK + "\n"
    reminder: str = ""
    looks: bool = False
    best_last: bool = False
    query_tokens: int = 24
    answer_tokens: int = 32

    def messages(self, question: str) -> tuple[Message, ...]:
        """The chat up to where the assistant writes."""
        turns: list[Message] = [{"role": "system", "content": self.system}]
        for asked, transcript in self.examples:
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": transcript}]
        return (*turns, {"role": "user", "content": escape(" ".join(question.split()))})


REASONING = Protocol(
    variant="reasoning",
    system=f"""\
You answer questions from a collection of documents that you can search.
Think first, inside {THINK} and {END_THINK}. Whenever you lack a fact, write a search query:
{BEGIN_QUERY} keywords {END_QUERY}
You will then read what was found between {BEGIN_DOCUMENTS} and {END_DOCUMENTS}, one numbered page per line with its address. \
You may search several times; ask for one fact at a time. Never write documents yourself.
When you know enough, close your thoughts with {END_THINK} and write only the answer, a few words, with the number of the page \
that it comes from: {ANSWER} 48,200 pounds (2) {END_ANSWER}
If the documents do not say it, write {ANSWER} I don't know {END_ANSWER}""",
)

SEEING = Protocol(
    variant="reasoning",
    system=f"""\
You answer questions from a collection of documents that you can search.
Think first, inside {THINK} and {END_THINK}. Whenever you lack a fact, write a search query:
{BEGIN_QUERY} keywords {END_QUERY}
You will then see what was found between {BEGIN_DOCUMENTS} and {END_DOCUMENTS}, numbered pictures of pages with their \
addresses. If something is too small to read, look closer: {LOOK}report.pdf#p=12&box=0.1,0.2,0.5,0.4{END_LOOK} shows a part \
of a page that you have seen; the box is left, top, right, bottom, in fractions of the page.
You may search and look several times; ask for one fact at a time. Never write documents yourself.
When you know enough, close your thoughts with {END_THINK} and write only the answer, a few words, with the number of the page \
that it comes from: {ANSWER} 48,200 pounds (2) {END_ANSWER}
If the documents do not say it, write {ANSWER} I don't know {END_ANSWER}""",
    looks=True,
)

_REMINDER = "The question is: {question}\n"


def _worked(question: str, query: str, pages: str, answer: str) -> tuple[str, str]:
    return question, (
        f"{THINK}\n{BEGIN_QUERY}{query}{END_QUERY}\n{BEGIN_DOCUMENTS}\n{pages}\n{END_DOCUMENTS}\n"
        f"{_REMINDER.format(question=question)}{END_THINK}\n{ANSWER}\n{answer}\n{END_ANSWER}"
    )


# Answers are whole sentences that repeat the question: a policy of 135M parameters then finds the right fact far more often
# than when it is asked for the bare fact (dev/LOG.md has the counts).
GUIDED = Protocol(
    variant="guided",
    system="You look things up in documents and answer in one short sentence that uses the words of the documents.",
    examples=(
        _worked(
            "How much did the repair of the Mill Lane bridge cost?",
            "repair of the Mill Lane bridge cost",
            "(1) [roads.pdf#p=9] Street lamps. In 2021 the council bought 310 lamps for Mill Lane and High Street.\n"
            "(2) [roads.pdf#p=4] Bridges. The repair of the Mill Lane bridge took five weeks and cost 48,200 pounds. "
            "The bridge in Kent Road was painted.",
            "The repair of the Mill Lane bridge cost 48,200 pounds.",
        ),
        _worked(
            "Which oil does the gearbox G7 need?",
            "oil for the gearbox G7",
            "(1) [gearbox.pdf#p=6] Oil. Gearbox G5 needs oil SAE 75. Gearbox G7 needs oil SAE 90, 2.4 litres.\n"
            "(2) [gearbox.pdf#p=2] The gearbox G7 weighs 61 kg and has six gears.",
            "The gearbox G7 needs oil SAE 90.",
        ),
        _worked(
            "Who repaired the clock in the town hall?",
            "who repaired the town hall clock",
            "(1) [town.pdf#p=3] The town hall was built in 1902. Its clock was repaired by Jane Moss in 2018. "
            "The roof was repaired by Carl Fox.",
            "The clock in the town hall was repaired by Jane Moss.",
        ),
    ),
    reminder=_REMINDER,
    best_last=True,
)
