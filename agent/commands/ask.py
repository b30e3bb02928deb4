"""`colsearcher ask`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from colsearcher.agent.asking import AskingOneByOne
from colsearcher.agent.flags import argument, option
from colsearcher.agent.terminal import show, show_json, tell


@dataclass(frozen=True)
class Ask(AskingOneByOne):
    """Let the agent search an index, a file of passages or a search service, and answer. It answers only what a page that it
    read supports, and cites the page; otherwise it says so and shows the nearest pages. Everything that happened is in the
    trace."""

    question: str = argument("the question")
    trace: Path | None = option(
        "write the trace here (default: a new file in the traces folder of what is searched)", default=None
    )
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.roles import tell_roles
        from colsearcher.agent.source import Place, open_source

        place = Place.parse(self.index, self.search)
        tell_roles(tell, policy=self.policy, engine=self.engine, place=place)
        from colsearcher.agent.ask import ask
        from colsearcher.agent.calibration import load_calibration
        from colsearcher.agent.engine import Sampling
        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.agent.record import Budgets
        from colsearcher.agent.transcript import Transcript, answer_lines

        with open_source(place, tell) as source:
            policy = open_policy(self.policy, self.engine, self.protocol)
            tell(f"{policy.told}; {source.described}")
            calibration = load_calibration(source.folder, policy.name, tell)
            transcript = Transcript()
            asked = ask(
                self.question,
                source,
                policy.engine,
                policy.protocol,
                budgets=Budgets(searches=self.max_searches, documents=self.documents, seconds=self.seconds),
                sampling=Sampling(temperature=self.temperature, seed=self.seed),
                trace=self.trace,
                on_event=transcript.event if sys.stderr.isatty() and not self.json else lambda kind, data: None,
                calibration=calibration,
            )
        if self.json:
            show_json(asked.as_json())
            return 0
        for line in answer_lines(asked):
            show(line)
        show(f"{'trace':<10}{asked.trace}")
        return 0
