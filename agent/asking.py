"""The flags of the commands that put questions to a policy: where it searches, which policy, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colsearcher.agent.embedded_policy import DEFAULT
from colsearcher.agent.engine import ENGINES
from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT, NATURAL, POSITIVE, SEED


@dataclass(frozen=True)
class Asking:
    """What they all have."""

    index: Path | None = option("the index folder", default=None, metavar="DIR")
    search: str | None = option(
        "search this instead: a JSONL file of passages, a URL that answers like Search-R1's retrieval server, or an index",
        default=None,
        metavar="SOURCE",
    )
    policy: str = option(
        "embedded-searcher, embedded (the same before it was trained), a model folder or a hub id", default=DEFAULT
    )
    engine: str = option(
        f"what runs the policy: {ENGINES}",
        default="transformers",
        metavar="NAME",
    )
    protocol: Literal["auto", "guided", "reasoning"] = option(
        "who writes the tags: guided (the environment, for small untrained policies), reasoning (the policy); auto: "
        "guided for embedded",
        default="auto",
    )
    max_searches: int = option("at most so many searches for a question", default=3, metavar="N", within=COUNT)
    documents: int = option("pages per search", default=3, metavar="N", within=COUNT)
    temperature: float = option("0 is greedy", default=0.0, within=NATURAL)
    seed: int = option("of the sampling", default=0, within=SEED)


@dataclass(frozen=True)
class AskingOneByOne(Asking):
    """What those have that answer one question after the other, so that each has a time of its own."""

    seconds: float = option("give an answer up after so long", default=120.0, within=POSITIVE)
