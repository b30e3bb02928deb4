"""A guard that calls a collapse while there is still something to go back to.

What is watched, as means over a window of batches against the best window so far:

| metric | why |
|---|---|
| search, format and answer rate | without searches, tags or answers a reward is earned by accident |
| likelihood of right rollouts | falls first when GRPO collapses, before the reward does |
| entropy | a policy that always writes the same has nothing left to learn from |

Left out: stopping and going back (`stage_run`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from colsearcher.training.policy.recipe import Recipe
from colsearcher.training.policy.rewards import RewardSum

RATES = {"agent/search_rate": "searches", "agent/format_rate": "keeps the format", "agent/answer_rate": "answers"}
LIKELIHOOD, ENTROPY = "agent/right_logprob", "entropy"

# A rate that never was higher has nothing to fall from.
_LEAST_BEST = 0.2


@dataclass(frozen=True)
class Collapse:
    """Attributes:
    step: after which it was called.
    good: the last step of the best window of what has fallen; weights after it are to be had back.
    reason: a sentence.
    """

    step: int
    good: int
    reason: str


@dataclass
class Guard:
    """Sees the metrics of each batch of rollouts; the same rows give the same verdicts, so that a resumed run needs no state.

    Args:
        window, fall, likelihood, entropy: see `Recipe`; a limit of 0 is off.
    """

    window: int
    fall: float
    likelihood: float
    entropy: float
    _seen: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    _best: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def best_steps(self) -> set[int]:
        """The steps that a collapse could go back to."""
        return {step for step, _ in self._best.values()}

    def saw(self, step: int, row: Mapping[str, float]) -> Collapse | None:
        """A batch's metrics, by the step that it was sampled in; what is missing in them was not measured."""
        for name in (*RATES, LIKELIHOOD, ENTROPY):
            value = row.get(name)
            if value is None:
                continue
            seen = self._seen.setdefault(name, [])
            seen.append((step, value))
            if len(seen) < self.window:
                continue
            mean = sum(own for _, own in seen[-self.window :]) / self.window
            good, best = self._best.get(name, (step, mean))
            if mean >= best:
                good, best = self._best[name] = (step, mean)
            if reason := self._fallen(name, mean, best):
                return Collapse(step, good, reason)
        return None

    def _fallen(self, name: str, mean: float, best: float) -> str | None:
        over = f"over the last {self.window} batches"
        if name in RATES and self.fall and best >= _LEAST_BEST and mean < self.fall * best:
            return f"the policy {RATES[name]} in {mean:.0%} of its rollouts {over}, {best:.0%} at best"
        if name == LIKELIHOOD and self.likelihood and best - mean > self.likelihood:
            return f"right rollouts have become less likely: {mean:.2f} nats a token {over}, {best:.2f} at best"
        if name == ENTROPY and mean < self.entropy:
            return f"the entropy is {mean:.4f} nats a token {over}, less than {self.entropy:g}"
        return None


def guard_of(recipe: Recipe, rewards: RewardSum) -> Guard:
    """A recipe's guard. Where right answers earn nothing they may become less likely: guesses do when searching is learned."""
    likelihood = recipe.guard_likelihood if rewards.asks_who_is_right else 0.0
    return Guard(recipe.guard_window, recipe.guard_fall, likelihood, recipe.guard_entropy)
