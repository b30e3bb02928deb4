"""`colsearcher replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from colsearcher.agent.flags import argument, option
from colsearcher.agent.terminal import show, tell
from colsearcher.indexes.errors import ColSearcherError, UserError

if TYPE_CHECKING:
    from PIL import Image

    from colsearcher.agent.replay_page import Draw

_SIDE = 560


@dataclass(frozen=True)
class Replay:
    """Tell a trace again, offline: as `ask` printed it, or with --html as one file that shows the path from question to
    answer, the pages with what matched on them, every token and the time. Nothing is run again."""

    trace: Path = argument("the JSONL file that `ask` named")
    html: Path | None = option("write this page in place of printing", default=None, metavar="HTML")
    index: Path | None = option(
        "the index, for the pages' pictures (default: where the trace lies)", default=None, metavar="DIR"
    )

    def run(self) -> int:
        from colsearcher.agent.replay import replay_of
        from colsearcher.agent.trace import read_trace

        events = read_trace(self.trace)
        replay = replay_of(events)
        if self.html is None:
            from colsearcher.agent.transcript import Transcript, lines_of

            transcript = Transcript()
            for event in events:
                transcript.event(event.kind, event.data)
            for line in lines_of(replay.answer) if replay.answer else [f"{'stop':<10}{replay.stop}"]:
                show(line)
            return 0
        from colsearcher.agent.replay_page import replay_page

        page = replay_page(replay, self._drawer())
        try:
            self.html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.html} cannot be written ({error.strerror}); name another file with --html.") from None
        show(str(self.html))
        return 0

    def _drawer(self) -> Draw:
        """Draws pages from the index; none without one, and without a word more than once."""
        from colsearcher.indexes.address import Address
        from colsearcher.indexes.page_index import PageIndex
        from colsearcher.retrieval.searcher import Searcher

        folder = self.index or self.trace.absolute().parent.parent
        if self.index is None and not PageIndex.exists(folder):
            tell("the trace does not lie in an index: pages are named, not shown; name the index with --index")
            return lambda address, query: None
        searcher = Searcher.open(folder)

        def draw(address: str, query: str) -> Image.Image | None:
            try:
                return searcher.picture(Address.parse(address), question=query or None, side=_SIDE)
            except ColSearcherError as problem:
                tell(f"  not shown: {address}: {problem}")
                return None

        return draw
