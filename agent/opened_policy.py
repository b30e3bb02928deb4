"""A policy by name, with the engine that runs it and the protocol that fits it: one way for every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from colsearcher.agent.engine import Engine
from colsearcher.agent.policy import load_policy
from colsearcher.agent.protocol import GUIDED, REASONING, SEEING, Protocol
from colsearcher.retrieval.local_only import is_local_only

Variant = Literal["auto", "guided", "reasoning"]


@dataclass(frozen=True)
class OpenedPolicy:
    """An engine ready to run, how it is spoken to, and one line about it."""

    engine: Engine
    protocol: Protocol
    told: str


def open_policy(name: str, variant: Variant = "auto") -> OpenedPolicy:
    """Load a policy.

    Args:
        name: see `load_policy`.
        variant: auto is guided for the embedded policy, which was not trained for the tags, and reasoning for others.

    Raises:
        ModelProblem: see `load_policy`.
    """
    from colsearcher.agent.transformers_engine import TransformersEngine

    policy = load_policy(name, local=is_local_only())
    engine = TransformersEngine(policy)
    guided = variant == "guided" or (variant == "auto" and name == "embedded")
    return OpenedPolicy(engine, GUIDED if guided else SEEING if engine.sees else REASONING, policy.describe())
