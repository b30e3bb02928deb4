"""The numbers that a setting may have."""

from __future__ import annotations

import math
from dataclasses import dataclass

from colsearcher.indexes.errors import UserError


@dataclass(frozen=True)
class Range:
    """Finite numbers: from `least` on, or above `above`, and up to `most`; None is no limit.

    >>> Range(above=0, most=1).check("--recall", 1.5)
    Traceback (most recent call last):
    colsearcher.indexes.errors.UserError: --recall is 1.5; give a number above 0, at most 1.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None

    def check(self, name: str, value: float) -> None:
        """
        Raises:
            UserError: the value is not one of them.
        """
        if not (
            (isinstance(value, int) or math.isfinite(value))
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        ):
            raise UserError(f"{name} is {value}; give {self}.")

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least} to {self.most}"
        limits = [
            f"at least {self.least}" if self.least is not None else "",
            f"a number above {self.above}" if self.above is not None else "",
            f"at most {self.most}" if self.most is not None else "",
        ]
        return ", ".join(limit for limit in limits if limit) or "a finite number"


COUNT = Range(least=1)
NATURAL = Range(least=0)
POSITIVE = Range(above=0)
SHARE = Range(above=0, most=1)
SEED = Range(least=0, most=2**32 - 1)  # what all libraries take that are given one
