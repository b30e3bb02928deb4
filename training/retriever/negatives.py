"""Hard negatives: pages that an index ranks high for a question and that do not answer it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.searcher import Searcher
from colsearcher.training.retriever.pairs import Pair

_BATCH = 16


def mine(
    searcher: Searcher,
    pairs: Sequence[Pair],
    count: int,
    *,
    pages: Collection[str],
    skip: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> list[tuple[str, ...]]:
    """For each pair the keys of the best-ranked wrong pages.

    Args:
        searcher: the index that ranks.
        count: how many for each pair.
        pages: the pages that can be drawn; others are passed over.
        skip: leave out so many of the best-ranked wrong pages, which may be answers that nobody marked.

    Raises:
        UserError: the index holds too few of the pages.
    """
    known = frozenset(pages)
    needed = {pair.question: (pair.gold, skip + count) for pair in pairs}
    found: dict[str, tuple[str, ...]] = {}
    waiting = list(needed)
    depth = skip + count + max(len(pair.gold) for pair in pairs)
    while waiting:
        short = []
        for start in range(0, len(waiting), _BATCH):
            asked = waiting[start : start + _BATCH]
            for question, result in zip(asked, searcher.search(asked, depth), strict=True):
                gold, enough = needed[question]
                ranked = [str(Address(hit.document, hit.page)) for hit in result.hits]
                wrong = [key for key in ranked if key not in gold and key in known]
                found[question] = tuple(wrong[skip:enough])
                if len(wrong) >= enough:
                    continue
                if len(ranked) < depth:
                    raise UserError(
                        f"The index gives {len(wrong)} wrong pages for «{question}» that are among the training pages, not "
                        f"{enough}; index the same folders that --pages names, or ask for fewer --hard-negatives."
                    )
                short.append(question)
            if start // _BATCH % 20 == 0:
                tell(f"hard negatives: {start + len(asked):,} of {len(waiting):,} questions, {depth} pages each")
        waiting, depth = short, 4 * depth
    return [found[pair.question] for pair in pairs]
