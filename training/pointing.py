"""Whether heat maps point at what is asked for: their peak inside the gold box (the pointing game; Zhang et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from colsearcher.indexes.address import Address, Box
from colsearcher.indexes.errors import UserError
from colsearcher.indexes.records import PageEmbedding, QueryEmbedding
from colsearcher.retrieval.heat_map import only_words, relevance
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.question import Question
from colsearcher.training.retrieval_evaluation import require_gold
from colsearcher.training.retrieval_metrics import bootstrap_interval


@dataclass(frozen=True)
class Pointing:
    """What heat maps point at.

    Attributes:
        address: the gold box.
        words: the words of the question that it is about, "" for all of it.
        hit: 1 where the peak of the heat map is in the box; of several equal peaks the share that is.
        chance: the share of the page's places that are in the box.
    """

    address: Address
    question: str
    words: str
    hit: float
    chance: float


@dataclass(frozen=True)
class PointingScores:
    """Means over the boxes, and the 95 % interval of the first by a bootstrap over the boxes."""

    pointing: float
    interval: tuple[float, float]
    chance: float
    questions: int
    boxes: tuple[Pointing, ...]


def evaluate_pointing(
    searcher: Searcher, questions: Sequence[Question], *, tell: Callable[[str], None] = lambda text: None
) -> PointingScores:
    """Look for the peak of the heat map of every gold box's words on its page, as the index has it.

    Raises:
        UserError: no question has a box, a box's page is not in the index, or the embedder gives one vector per page.
    """
    asked = [question for question in questions if question.boxes]
    if not asked:
        raise UserError('No question has boxes; a line of the file gives them as "boxes": [{"address": "a.pdf#p=3&box=…"}].')
    index = searcher.index
    require_gold(asked, set(index.pages()), index.folder)
    tell(f"heat maps of {sum(len(question.boxes) for question in asked):,} boxes")
    found = []
    for question in asked:
        query = searcher.embedder.embed_queries([question.text])[0]
        for gold in question.boxes:
            page = index.embedding(gold.address.document, gold.address.page)
            if len(page.vectors) and not len(page.standing().owner):
                raise UserError(f"{searcher.embedder.name} makes one vector of a page, so its heat maps have no places.")
            hit, chance = point(page, only_words(query, gold.words) if gold.words else query, gold.box)
            found.append(Pointing(gold.address, question.text, gold.words, hit, chance))
    hits = np.array([one.hit for one in found])
    chances = np.array([one.chance for one in found])
    return PointingScores(float(hits.mean()), bootstrap_interval(hits), float(chances.mean()), len(asked), tuple(found))


def point(page: PageEmbedding, query: QueryEmbedding, box: Box) -> tuple[float, float]:
    """Whether the peak of a page's heat map is in a box, and the share of places that are: by the centres of places.

    A pooled vector stands for several places, which are equally high: of several peaks the share that is in the box counts.
    A page where nothing stands, such as a blank one, points nowhere.
    """
    places = page.standing()
    if not len(places.owner):
        return 0.0, 0.0
    values = relevance(page, query)
    if page.places is None:
        values = values[places.owner]
    centres = (places.boxes[:, :2] + places.boxes[:, 2:]) / 2
    inside = ((centres >= box[:2]) & (centres <= box[2:])).all(1)
    return float(inside[values == values.max()].mean()), float(inside.mean())
