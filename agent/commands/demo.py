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
    "From which pier does the free ferry to the open day leave?",
    "With which torque is the spare part tightened that the remedy of error code E-37 tells you to replace?",
    "What is the meaning of error code E-88?",
)


@dataclass(frozen=True)
class Demo:
    """The whole way on a small corpus that it draws itself: PDFs, an index, three questions with their searches, answers and
    pages. A second run finds everything in place."""

    folder: Path = option("where corpus and index go", default=Path("demo"))

    def run(self) -> int:
        from colsearcher.agent.ask import ask
        from colsearcher.agent.calibration import load_calibration
        from colsearcher.agent.embedded_policy import DEFAULT
        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.agent.transcript import Transcript
        from colsearcher.retrieval.sample.corpus import write_sample_corpus
        from colsearcher.retrieval.searcher import Searcher

        started = time.monotonic()
        corpus, index = self.folder / "corpus", self.folder / "index"
        sample = write_sample_corpus(corpus)
        show(f"1. a sample corpus of {len(sample.documents)} documents is in {corpus}")
        show(f"2. colsearcher index add {corpus} --index {index}")
        Add((corpus,), index=index).run()
        show("3. three questions to the agent (a policy of 135M parameters: expect wrong readings)")
        policy = open_policy(DEFAULT)
        show(f"   {policy.told}")
        calibration = load_calibration(index, policy.name, lambda line: show(f"   {line}"))
        with Searcher.open(index) as searcher:
            for question in QUESTIONS:
                show()
                transcript = Transcript(sys.stdout)
                asked = ask(
                    question, searcher, policy.engine, policy.protocol, on_event=transcript.event, calibration=calibration
                )
                transcript.result(asked)
        show()
        show(f"done in {duration(time.monotonic() - started)}; go on with:")
        show(f'  colsearcher ask "…" --index {index}')
        show(f'  colsearcher look "field-manual.pdf#p=3" --query "…" --index {index} -o page.png')
        show(f"  colsearcher eval retrieval --qa {sample.questions} --index {index}")
        return 0
