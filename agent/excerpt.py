"""The part of a page that a policy with a short context gets to read: the window of words that answers the query best."""

from __future__ import annotations

from collections.abc import Callable

from colsearcher.agent.wording import terms

Count = Callable[[str], int]  # text -> number of tokens

CUT = "…"


def excerpt(text: str, query: str, budget: int, count: Count) -> str:
    """The whole text if it costs at most `budget` tokens, else its best window, with … where something was cut.

    A window is best when it holds the most different query terms, then the most occurrences, then when it begins earliest.
    Empty when not even one word fits.

    >>> excerpt("one two three four five six", "five", 3, lambda text: len(text.split()))
    '… five …'
    """
    words = text.split()
    whole = " ".join(words)
    if not words or (cost := count(whole)) <= budget:
        return whole
    size = min(len(words) - 1, max(1, len(words) * budget // cost))
    marks = [set(terms(word)) & set(terms(query)) for word in words]
    while size > 0:
        start = _best_start(marks, size)
        window = words[start : start + size]
        cut = " ".join([*([CUT] if start else []), *window, *([CUT] if start + size < len(words) else [])])
        cost = count(cut)
        if cost <= budget:
            return cut
        size = min(size - 1, size * budget // cost)
    return ""


def _best_start(marks: list[set[str]], size: int) -> int:
    """Start of the best window, moved so that its matches sit in the middle."""
    best, best_key = 0, (-1, -1)
    for start in range(len(marks) - size + 1):
        window = marks[start : start + size]
        key = (len(set().union(*window)), sum(map(len, window)))
        if key > best_key:
            best, best_key = start, key
    hits = [place for place in range(best, best + size) if marks[place]]
    if not hits:
        return best
    return max(0, min((hits[0] + hits[-1] + 1 - size) // 2, len(marks) - size))
