"""`colsearcher search`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Literal

from colsearcher.agent.flags import argument, option
from colsearcher.agent.range import COUNT, SHARE
from colsearcher.agent.terminal import show, show_json, tell


@dataclass(frozen=True)
class Search:
    """Rank the pages for a question."""

    question: str = argument("what to look for, in words")
    index: Path = option("the index folder, or one of shards", metavar="DIR")
    k: int = option("how many pages", default=5, short="-k", metavar="N", within=COUNT)
    filter: str | None = option(
        "an SQL expression over page columns, such as \"document LIKE 'report%%' AND page < 9\"", default=None, metavar="SQL"
    )
    ranking: Literal["default", "late", "words"] = option(
        "default: meaning and words; late: late interaction alone; words: BM25 alone", default="default"
    )
    recall: float = option("the share of the exact top ten that has to be found; 1 is exact", default=0.99, within=SHARE)
    device: str = option("cpu, cuda, or auto", default="auto")
    embedder: str | None = option("insist on this embedder", default=None)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.roles import tell_roles
        from colsearcher.agent.source import Place
        from colsearcher.indexes.shards import open_index

        with open_index(self.index) as index:
            index.require_pages()  # before the seconds that loading the models takes
        tell_roles(tell, place=Place("index", str(self.index)))
        from colsearcher.retrieval.searcher import Searcher

        with Searcher.open(self.index, self.embedder, device=self.device) as searcher:
            result = searcher.search([self.question], self.k, filter=self.filter, ranking=self.ranking, recall=self.recall)[0]
            regions = searcher.regions(self.question, [hit.address for hit in result.hits])
        if self.json:
            hits = [
                {
                    "document": hit.document,
                    "page": hit.page,
                    "score": round(hit.score, 6),
                    "address": str(hit.address),
                    "parts": {name: round(value, 6) for name, value in hit.parts.items()},
                    "evidence": [str(region.address)],
                    "text": region.text,
                    "metadata": dict(hit.metadata),
                }
                for hit, region in zip(result.hits, regions, strict=True)
            ]
            show_json({"query": self.question, "hits": hits, "plan": dict(result.plan), "timing_ms": dict(result.timing_ms)})
            return 0
        for hit, region in zip(result.hits, regions, strict=True):
            parts = " + ".join(f"{name} {value:.3f}" for name, value in hit.parts.items() if value)
            show(f"{hit.score:.3f}  {hit.address}   = {parts}")
            if region.text:
                show(f"       {shorten(region.text, 120, placeholder=' …')}")
        if not result.hits:
            matching = ["has a word of the question"] * (self.ranking == "words")
            matching += [f"matches the filter «{self.filter}»"] * bool(self.filter)
            show("no page " + (" and ".join(matching) or "matches"))
        return 0
