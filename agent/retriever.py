"""What the agent asks of retrieval: queries in, ranked passages out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from colsearcher.indexes.address import Address


@dataclass(frozen=True)
class Passage:
    """The text of one retrieved page (or of one paragraph, where the corpus is a file of paragraphs)."""

    address: Address
    text: str
    score: float


class Retriever(Protocol):
    """Anything that ranks passages."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """For each query up to k passages, best first, each address at most once.

        Raises:
            ColSearcherError: the corpus cannot be searched; the rollout ends with `StopReason.RETRIEVER_FAILED`.
        """
        ...
