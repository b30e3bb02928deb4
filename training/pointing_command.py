"""`colsearcher eval boxes`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import show, show_json, tell


@dataclass(frozen=True)
class EvalBoxes:
    """Score heat maps on questions with known boxes: the share of boxes that hold the peak of the heat map of their words on
    their page, as the index stores it, and the share that a place picked at random would reach."""

    qa: Path = option("JSONL of questions with boxes", metavar="QA.jsonl")
    index: Path = option("the index folder", metavar="DIR")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    json: bool = option("print one JSON document, with every box", default=False)

    def run(self) -> int:
        from colsearcher.retrieval.searcher import Searcher
        from colsearcher.training.pointing import evaluate_pointing
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa, self.limit)
        with Searcher.open(self.index) as searcher:
            scores = evaluate_pointing(searcher, questions, tell=tell)
        low, high = scores.interval
        if self.json:
            show_json(
                {
                    "pointing": round(scores.pointing, 4),
                    "interval": [round(low, 4), round(high, 4)],
                    "chance": round(scores.chance, 4),
                    "questions": scores.questions,
                    "boxes": [
                        {"address": str(one.address), "question": one.question, "words": one.words, "hit": round(one.hit, 4)}
                        for one in scores.boxes
                    ],
                }
            )
            return 0
        show(f"pointing {scores.pointing:.3f} ({low:.3f} to {high:.3f}), chance {scores.chance:.3f}")
        show(f"{len(scores.boxes):,} boxes of {scores.questions:,} questions")
        return 0
