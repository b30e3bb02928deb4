"""Algorithms by name, as the exact settings of TRL's GRPO that reproduce them.

| name | paper | what it is |
|---|---|---|
| grpo | DeepSeekMath (Shao et al., 2024) | advantages within the group over its spread, loss averaged per answer |
| dr-grpo | Liu et al., 2025 | without the spread, loss over a constant length: no bias to length or difficulty |
| dapo | Yu et al., 2025 | per token over the batch, a higher upper clip, groups that are all alike drawn again |
| reinforce++-baseline | Hu, 2025; R1-Searcher | less the group's mean, over the spread of the whole batch |
| rloo | Ahmadian et al., 2024 | less the mean of the others, unscaled |
| gspo | Zheng et al., 2025 | one ratio per answer, clipped narrowly |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Algorithm:
    """Settings of `GRPOConfig`, and what TRL leaves to the rollouts.

    Attributes:
        dynamic: a group whose rollouts all earn the same is replaced by one of another question.
        leave_one_out: advantages are r less the mean of the others: n / (n - 1) times r less the mean.
    """

    settings: Mapping[str, Any]
    dynamic: bool = False
    leave_one_out: bool = False


ALGORITHMS: Mapping[str, Algorithm] = {
    "grpo": Algorithm({"loss_type": "grpo", "scale_rewards": "group"}),
    "dr-grpo": Algorithm({"loss_type": "dr_grpo", "scale_rewards": "none"}),
    "dapo": Algorithm({"loss_type": "dapo", "scale_rewards": "group", "epsilon": 0.2, "epsilon_high": 0.28}, dynamic=True),
    "reinforce++-baseline": Algorithm({"loss_type": "dapo", "scale_rewards": "batch"}),
    "rloo": Algorithm({"loss_type": "dapo", "scale_rewards": "none"}, leave_one_out=True),
    "gspo": Algorithm(
        {
            "loss_type": "grpo",
            "scale_rewards": "group",
            "importance_sampling_level": "sequence",
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
        }
    ),
}
