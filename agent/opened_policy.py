"""A policy by name, with the engine that runs it and the protocol that fits it: one way for every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from colsearcher.agent.engine import Engine
from colsearcher.agent.engines import load_engine
from colsearcher.agent.protocol import GUIDED, REASONING, SEEING, Protocol
from colsearcher.retrieval.local_only import is_local_only

Variant = Literal["auto", "guided", "reasoning"]


@dataclass(frozen=True)
class OpenedPolicy:
    """An engine ready to run, how it is spoken to, and one line about it."""

    engine: Engine
    protocol: Protocol
    told: str

    @property
    def name(self) -> str:
        """As traces and calibrations have it."""
        return f"{self.engine.name}@{self.engine.revision[:12]}"


def open_policy(name: str, engine: str = "transformers", variant: Variant = "auto") -> OpenedPolicy:
    """Load a policy.

    Args:
        name, engine: see `load_engine`.
        variant: auto is guided for `embedded`, which was not trained for the tags, and reasoning for others.

    Raises:
        UserError: see `load_engine`.
    """
    loaded = load_engine(name, engine, local=is_local_only())
    embedded = name == "embedded" and not engine.startswith("openai:")
    if variant == "guided" or (variant == "auto" and embedded):
        return OpenedPolicy(loaded.engine, GUIDED, loaded.told)
    return OpenedPolicy(loaded.engine, SEEING if loaded.engine.sees else REASONING, loaded.told)
