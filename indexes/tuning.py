"""What `index tune` measured on an index, as the catalog keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class PooledTuning:
    """How candidates are asked.

    Attributes:
        folder: name of the candidates' folder beside the segments.
        probes: lists that are looked into for a query vector.
        neighbours: pooled vectors that are fetched for a query vector.
        pages: candidate pages of a query.
        recall: share of the exact top ten among the candidates, measured.
        ms: milliseconds of a query, candidates and scoring, measured.
        newest_page: all visible pages up to this id have candidates, whenever they became visible; ids are never used again.
    """

    folder: str
    probes: int
    neighbours: int
    pages: int
    recall: float
    ms: float
    newest_page: int


@dataclass(frozen=True)
class Tuning:
    """An audit against exact search.

    Attributes:
        created: ISO time, UTC.
        recall: the target.
        queries: how many queries were sampled.
        page_count: pages of the index at that time.
        depth: pages to score again after a scan of the codes, 0 where there are no codes.
        codes_recall: share of the exact top ten that this finds, measured.
        scan_ns: nanoseconds to score a vector, measured, by bits.
        pooled: candidates, where the index is large enough to need them.
    """

    created: str
    recall: float
    queries: int
    page_count: int
    depth: int
    codes_recall: float
    scan_ns: Mapping[str, float]
    pooled: PooledTuning | None

    @classmethod
    def from_json(cls, text: str) -> Self:
        values: dict[str, Any] = json.loads(text)
        pooled = values.pop("pooled")
        return cls(**values, pooled=PooledTuning(**pooled) if pooled else None)

    def to_json(self) -> str:
        return json.dumps(asdict(self))
