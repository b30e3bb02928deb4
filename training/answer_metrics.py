"""How near an answer is to the accepted ones: exact match, F1, cover and ANLS, each the best over the accepted answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_DELETED = str.maketrans("", "", string.punctuation)
_CLOSED = ({"yes"}, {"no"}, {"noanswer"})
_ANLS_THRESHOLD = 0.5


@dataclass(frozen=True)
class AnswerScores:
    """0 to 1 each.

    Attributes:
        em: the answer is one of the accepted ones, after `normalise`.
        f1: harmonic mean of precision and recall of its words.
        cem: an accepted answer stands in it, word after word (cover exact match).
        anls: 1 - edit distance over the longer length, 0 below 0.5 (Biten et al., 2019).
    """

    em: float
    f1: float
    cem: float
    anls: float


NOTHING = AnswerScores(0.0, 0.0, 0.0, 0.0)


def normalise(text: str) -> list[str]:
    """The words that SQuAD's and HotpotQA's scripts compare: lower case, no punctuation, no articles.

    >>> normalise("The U.S. Navy's (first) ship")
    ['us', 'navys', 'first', 'ship']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_DELETED)).split()


def score_answer(answer: str | None, accepted: Sequence[str]) -> AnswerScores:
    """Score an answer; None, and one without words, scores 0.

    >>> score_answer("The Battle of Guam, in 1898.", ["Battle of Guam"])
    AnswerScores(em=0.0, f1=0.75, cem=1.0, anls=0.5)
    >>> score_answer("yes", ["no"]).f1, score_answer("Yes.", ["yes"]).em
    (0.0, 1.0)
    """
    words = normalise(answer or "")
    if not words:
        return NOTHING
    pairs = [normalise(gold) for gold in accepted]
    return AnswerScores(
        max((float(words == gold) for gold in pairs), default=0.0),
        max((_f1(words, gold) for gold in pairs), default=0.0),
        max((float(_covers(words, gold)) for gold in pairs), default=0.0),
        max((_anls(answer or "", gold) for gold in accepted), default=0.0),
    )


def _f1(words: Sequence[str], gold: Sequence[str]) -> float:
    """Of bags of words; yes and no match only themselves (Yang et al., HotpotQA, 2018)."""
    if (set(words) in _CLOSED or set(gold) in _CLOSED) and list(words) != list(gold):
        return 0.0
    same = (Counter(words) & Counter(gold)).total()
    return 2 * same / (len(words) + len(gold)) if same else 0.0


def _covers(words: Sequence[str], gold: Sequence[str]) -> bool:
    """Whether `gold` stands in `words` without a gap: in any order, a list of all candidates would cover everything."""
    n = len(gold)
    return n > 0 and any(list(words[i : i + n]) == list(gold) for i in range(len(words) - n + 1))


def _anls(answer: str, gold: str) -> float:
    a, b = " ".join(answer.lower().split()), " ".join(gold.lower().split())
    longer = max(len(a), len(b))
    similarity = 1 - _edit_distance(a, b) / longer if longer else 0.0
    return similarity if similarity >= _ANLS_THRESHOLD else 0.0


def _edit_distance(a: str, b: str) -> int:
    """Levenshtein 1966, one row at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
