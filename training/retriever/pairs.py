"""What the retriever learns from: questions, each with the page that answers it, and batches without false negatives."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from PIL import Image

from colsearcher.indexes.errors import UserError
from colsearcher.training.question import GoldBox

Draw: TypeAlias = Callable[[str], Image.Image]
"""Draws the page of a key."""


@dataclass(frozen=True)
class Pair:
    """A question and a page that answers it.

    Attributes:
        question: the text.
        page: the key of the page.
        gold: the keys of all pages that answer the question, `page` among them.
        negatives: keys of pages that look like an answer and are none.
        boxes: where on `page` it is seen, as far as that is known.
    """

    question: str
    page: str
    gold: frozenset[str]
    negatives: tuple[str, ...] = ()
    boxes: tuple[GoldBox, ...] = ()


@dataclass(frozen=True)
class PairSet:
    """Pairs with the pages that they are about.

    Attributes:
        pairs: one for each question and gold page.
        pages: the keys of all pages, those that no pair is about as well; what a question is ranked against.
        draw: draws a page when it is needed.
    """

    pairs: tuple[Pair, ...]
    pages: tuple[str, ...]
    draw: Draw

    @property
    def questions(self) -> dict[str, frozenset[str]]:
        """Each question once, with its gold pages."""
        return {pair.question: pair.gold for pair in self.pairs}


def pairs_of(gold: Iterable[tuple[str, Iterable[str]]]) -> tuple[Pair, ...]:
    """Pairs from (question, its gold pages). A text that is asked of several pages has all of them as its gold pages.

    >>> [sorted(pair.gold) for pair in pairs_of([("what?", ["a"]), ("what?", ["b"])])]
    [['a', 'b'], ['a', 'b']]
    """
    pages: dict[str, dict[str, None]] = {}
    for question, keys in gold:
        pages.setdefault(question, {}).update(dict.fromkeys(keys))
    return tuple(Pair(question, page, frozenset(keys)) for question, keys in pages.items() for page in keys)


def batches(pairs: Sequence[Pair], size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch, as indices of pairs: shuffled, each full, no page of one pair among the gold of another.

    In a batch every other pair's page counts as a wrong answer, so pairs that share a page go to different batches. Pairs
    left over that cannot fill a batch wait for the next epoch, which is shuffled in another way.

    >>> a, b, c = pairs_of([("1", ["x"]), ("2", ["x"]), ("3", ["y"])])
    >>> [sorted(batch) in ([0, 2], [1, 2]) for batch in batches([a, b, c], 2, seed=0, epoch=0)]
    [True]
    """
    order = list(range(len(pairs)))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    waiting = deque(order)
    made: list[list[int]] = []
    while len(waiting) >= size:
        batch: list[int] = []
        put_off: list[int] = []
        pages: set[str] = set()
        gold: set[str] = set()
        while waiting and len(batch) < size:
            i = waiting.popleft()
            if pairs[i].page in gold or not pairs[i].gold.isdisjoint(pages):
                put_off.append(i)
                continue
            batch.append(i)
            pages.add(pairs[i].page)
            gold |= pairs[i].gold
        waiting.extendleft(reversed(put_off))
        if len(batch) < size:
            break
        made.append(batch)
    return made


def steps_of(pairs: Sequence[Pair], size: int, accumulate: int, *, seed: int, epochs: int) -> int:
    """How many optimizer steps so many epochs are.

    Raises:
        UserError: the pairs do not fill one step.
    """
    if size < 2:
        raise UserError(f"A batch of {size} has no wrong pages to tell the right one from; take --batch 2 or more.")
    steps = sum(len(batches(pairs, size, seed=seed, epoch=epoch)) for epoch in range(epochs)) // accumulate
    if not steps:
        raise UserError(
            f"{len(pairs)} pairs do not fill one step of {size * accumulate} with different pages; "
            "take a smaller --batch, or give more questions."
        )
    return steps


def endless(pairs: Sequence[Pair], size: int, *, seed: int) -> Iterator[list[int]]:
    """The batches of one epoch after the other.

    Raises:
        UserError: no batch can be filled.
    """
    steps_of(pairs, size, 1, seed=seed, epochs=1)
    epoch = 0
    while True:
        yield from batches(pairs, size, seed=seed, epoch=epoch)
        epoch += 1


def with_boxes(pairs: Sequence[Pair], boxes: Iterable[tuple[str, GoldBox]]) -> tuple[Pair, ...]:
    """The pairs, each with the boxes that are given for its question (by text) on its page."""
    found: dict[tuple[str, str], dict[GoldBox, None]] = {}
    for question, box in boxes:
        found.setdefault((question, str(box.page)), {})[box] = None
    return tuple(replace(pair, boxes=tuple(found.get((pair.question, pair.page), ()))) for pair in pairs)


def with_negatives(pairs: Sequence[Pair], negatives: Sequence[Sequence[str]]) -> tuple[Pair, ...]:
    """The pairs, each with its own wrong pages."""
    return tuple(replace(pair, negatives=tuple(keys)) for pair, keys in zip(pairs, negatives, strict=True))
