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
    questions = list(dict.fromkeys(pair.question for pair in pairs))
    most_gold = max(len(pair.gold) for pair in pairs)
    depth = count + skip + most_gold
    ranked: dict[str, list[str]] = {}
    for start in range(0, len(questions), _BATCH):
        asked = questions[start : start + _BATCH]
        for question, result in zip(asked, searcher.search(asked, depth), strict=True):
            ranked[question] = [str(Address(hit.document, hit.page)) for hit in result.hits]
        if start // _BATCH % 20 == 0:
            tell(f"hard negatives: {min(start + _BATCH, len(questions)):,} of {len(questions):,} questions")
    found = []
    for pair in pairs:
        wrong = [key for key in ranked[pair.question] if key not in pair.gold and key in known][skip:]
        if len(wrong) < count:
            raise UserError(
                f"The index gives {len(wrong)} wrong pages for «{pair.question}» that are among the training pages, "
                f"not {count}; index the same folders that --pages names, or ask for fewer --hard-negatives."
            )
        found.append(tuple(wrong[:count]))
    return found
