"""When to hold an answer back: a probability that it is right, from three measures of it, and the threshold on it.

The measures and the fitted numbers are data; `answer` takes the measures, `colsearcher calibrate` fits the numbers on questions
whose answers are known, and keeps them in `calibration.json` beside what was searched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import UserError

FILE = "calibration.json"
SHIPPED = Path(__file__).parent / "embedded" / FILE


@dataclass(frozen=True)
class Confidence:
    """What is measured of an answer that the policy wrote.

    Attributes:
        coverage: weighted share of the question's terms that stand on the retrieved pages taken together.
        support: share of the words that the answer adds to the question that stand on one retrieved page, the best.
        logprob: mean natural logarithm of the probability of the tokens of the turn that the answer was written in.
    """

    coverage: float
    support: float
    logprob: float


@dataclass(frozen=True)
class Calibration:
    """A fitted logistic regression and the probability from which on an answer is given.

    Attributes:
        policy: name and revision; token probabilities of another policy mean something else.
        weights: of each measure of `Confidence`, by name.
        report: what it was fitted on and what it reached, for people.
    """

    policy: str
    weights: Mapping[str, float]
    bias: float
    threshold: float
    report: Mapping[str, Any] = field(default_factory=dict)

    def probability(self, confidence: Confidence) -> float:
        """That the answer is right.

        >>> calibration = Calibration("p", {"coverage": 2.0, "support": 0.0, "logprob": 1.0}, -1.0, 0.5)
        >>> calibration.probability(Confidence(coverage=1.0, support=0.3, logprob=-1.0))
        0.5
        """
        measures = asdict(confidence)
        logit = self.bias + sum(weight * measures[name] for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))

    def save(self, folder: Path) -> Path:
        """Keep it beside what was searched; the one before it is replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return fresh.replace(path)


def load_calibration(folder: Path, policy: str, tell: Callable[[str], None]) -> Calibration | None:
    """The calibration beside what is searched, or else the one that the policy comes with; what is found is told in a line.

    Raises:
        UserError: the file is there and is no calibration.
    """
    path = folder / FILE
    if path.is_file():
        found = _read(path)
        if found.policy == policy:
            tell(f"calibrated: an answer is given from a probability of {found.threshold:.2f} on ({path})")
            return found
        tell(f"calibration of {found.policy} left aside, this is {policy}; `colsearcher calibrate` fits one")
    shipped = shipped_calibration(policy)
    if shipped is not None:
        tell(f"calibrated: an answer is given from a probability of {shipped.threshold:.2f} on (comes with the policy)")
    return shipped


def shipped_calibration(policy: str) -> Calibration | None:
    """What a policy comes with, for where nobody has calibrated it."""
    shipped = _read(SHIPPED)
    return shipped if shipped.policy == policy else None


def _read(path: Path) -> Calibration:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(**values)
        found.probability(Confidence(1.0, 1.0, 0.0))
        return Calibration(**{**values, "threshold": float(found.threshold)})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{path} is no calibration; remove it, or run `colsearcher calibrate` again.") from None
