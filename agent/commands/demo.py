"""`colsearcher demo`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from colsearcher.agent.commands.index import Add
from colsearcher.agent.flags import option
from colsearcher.agent.terminal import duration, show

# One page answers the first, two pages the second, none the third.
QUESTIONS = (
    "With which shackle is the chain joined to the swivel?",
    "What revenue did the region where the new depot Wick Harbour opens have in 2025, in million crowns?",
    "What is the meaning of error code E-88?",
)


@dataclass(frozen=True)
class Demo:
    """The whole way on a small corpus that it draws itself: PDFs, an index, three questions with their searches, answers and
    pages. A second run finds everything in place."""

    folder: Path = option("where corpus and index go", default=Path("demo"))

    def run(self) -> int:
        from colsearcher.agent.ask import ask
        from colsearcher.agent.policy import load_policy
        from colsearcher.agent.protocol import GUIDED
        from colsearcher.agent.transcript import Transcript
        from colsearcher.agent.transformers_engine import TransformersEngine
        from colsearcher.retrieval.sample.corpus import write_sample_corpus
        from colsearcher.retrieval.searcher import Searcher

        started = time.monotonic()
        corpus, index = self.folder / "corpus", self.folder / "index"
        sample = write_sample_corpus(corpus)
        show(f"1. a sample corpus of {len(sample.documents)} documents is in {corpus}")
        show(f"2. colsearcher index add {corpus} --index {index}")
        Add((corpus,), index=index).run()
        show("3. three questions to the agent (an untrained policy of 135M parameters: expect wrong readings)")
        engine = TransformersEngine(load_policy())
        show(f"   policy {engine.name}, embedded")
        with Searcher.open(index) as searcher:
            for question in QUESTIONS:
                show()
                transcript = Transcript(sys.stdout)
                transcript.result(ask(question, searcher, engine, GUIDED, on_event=transcript.event))
        show()
        show(f"done in {duration(time.monotonic() - started)}; go on with:")
        show(f'  colsearcher ask "…" --index {index}')
        show(f'  colsearcher look "field-manual.pdf#p=3" --query "…" --index {index} -o page.png')
        show(f"  colsearcher eval retrieval --qa {sample.questions} --index {index}")
        return 0
