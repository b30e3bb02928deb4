"""How large a bench is: which pages, how many, and how many questions are asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DIM = 128
DEPTH = 10
CONCURRENT = 16
SEED = 20


@dataclass(frozen=True)
class Preset:
    """One size.

    Attributes:
        name: also the name of its folder and of its plot.
        kind: "passages": every page is a short passage. "pages": real pages of some 400 vectors, filled up to `pages` with
            distractors that are recombined from them.
        pages: how many.
        questions: questions about the passages.
        document_questions: questions about the documents' pages.
        timed: so many of the questions are asked one at a time and timed; recall is over all of them.
    """

    name: str
    kind: Literal["passages", "pages"]
    pages: int
    questions: int
    document_questions: int
    timed: int


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("small", "passages", 6_000, questions=237, document_questions=0, timed=48),
        Preset("10k", "pages", 10_000, questions=64, document_questions=32, timed=48),
        Preset("50k", "pages", 50_000, questions=32, document_questions=16, timed=48),
        Preset("100k", "pages", 100_000, questions=32, document_questions=16, timed=48),
    )
}
