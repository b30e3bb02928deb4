"""`colsearcher compare` and `colsearcher compare indexes`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from colsearcher.agent.flags import argument, option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import show, show_json, size, tell
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.training.comparison import Comparison, Side

_SHOWN = 10


@dataclass(frozen=True)
class Compare:
    """Index the same files with two embedders, in temporary folders, and ask both the same questions: how well each ranks,
    what it costs, and which questions gain or lose. `colsearcher compare indexes` does it with two indexes that exist."""

    paths: tuple[Path, ...] = argument("PDF files, images, or folders of them")
    a: str = option("an embedder", metavar="NAME")
    b: str = option("the other embedder", metavar="NAME")
    qa: Path = option("JSONL of questions with evidence pages", metavar="QA.jsonl")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    ocr: Literal["auto", "never", "always"] = option("read words off the picture: where a page has none", default="auto")
    ranking: Literal["late", "default"] = option("late interaction alone, or fused with the pages' words", default="late")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.retrieval.corpus import find_sources
        from colsearcher.retrieval.embedder import load_embedder
        from colsearcher.retrieval.reading import ReadSettings
        from colsearcher.training.comparison import compare_embedders
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa, self.limit)
        sources = find_sources(self.paths)
        if not sources.files:
            raise UserError(f"There is no PDF and no image in {', '.join(map(str, self.paths))}; name a folder that has some.")
        embedders = load_embedder(self.a), load_embedder(self.b)
        settings = ReadSettings(ocr=self.ocr)
        compared = compare_embedders(embedders, sources, questions, settings=settings, ranking=self.ranking, tell=tell)
        _report(compared, self.json)
        return 0


@dataclass(frozen=True)
class CompareIndexes:
    """Ask two indexes the same questions, each with the embedder that made it: `colsearcher compare` without the indexing."""

    index_a: Path = option("an index folder", metavar="DIR")
    index_b: Path = option("the other index folder", metavar="DIR")
    qa: Path = option("JSONL of questions with evidence pages", metavar="QA.jsonl")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    ranking: Literal["late", "default"] = option("late interaction alone, or fused with the pages' words", default="late")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.training.comparison import compare_indexes
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa, self.limit)
        compared = compare_indexes((self.index_a, self.index_b), questions, ranking=self.ranking, tell=tell)
        _report(compared, self.json)
        return 0


def _report(compared: Comparison, as_json: bool) -> None:
    for problem in compared.problems:
        tell(f"  not read: {problem}")
    changes = compared.changes
    better, worse = (sum(sign * change.gain > 0 for change in changes) for sign in (1, -1))
    counts = {"better": better, "worse": worse, "same": len(changes) - better - worse}
    if as_json:
        show_json(
            {
                "a": _side(compared.a),
                "b": _side(compared.b),
                "questions": len(changes),
                "unanswerable_left_out": compared.unanswerable,
                "ndcg@5_difference": round(compared.difference, 4),
                "ndcg@5_difference_95": [round(end, 4) for end in compared.interval],
                "gold_rank": counts,
                "changes": [asdict(change) for change in changes],
                "problems": [asdict(problem) for problem in compared.problems],
            }
        )
        return
    _show_table(compared)
    low, high = compared.interval
    show()
    show(f"ndcg@5, b less a: {compared.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} (paired bootstrap)")
    show(f"first gold page, b beside a: better {better}, worse {worse}, same {counts['same']}")
    for change in [change for change in changes if change.gain][:_SHOWN]:
        show(f"  {change.question}: {_place(change.a)} -> {_place(change.b)}")
    show(f"{len(changes)} questions, {compared.a.pages:,} pages; {compared.unanswerable} without gold pages left out")


def _show_table(compared: Comparison) -> None:
    sides = (compared.a, compared.b)
    rows = [(name, [f"{side.metrics[name]:.4f}" for side in sides]) for name in compared.a.metrics]
    rows += [
        ("bytes per page", [size(side.bytes_per_page) for side in sides]),
        ("vectors per page", [f"{side.vectors_per_page:.1f}" for side in sides]),
        ("embed pages/s", [f"{side.embed_pages_per_s:.2f}" if side.embed_pages_per_s else "–" for side in sides]),
        ("ms per question", [f"{side.ms_per_question:.1f}" for side in sides]),
    ]
    names = [f"a: {compared.a.embedder}", f"b: {compared.b.embedder}"]
    widths = [max(12, len(name) + 2) for name in names]
    for label, cells in [("", names), *rows]:
        show(f"{label:<18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))


def _side(side: Side) -> dict[str, object]:
    speed = side.embed_pages_per_s
    return {
        "embedder": side.embedder,
        **side.metrics,
        "pages": side.pages,
        "bytes_per_page": round(side.bytes_per_page, 1),
        "vectors_per_page": round(side.vectors_per_page, 2),
        "embed_pages_per_s": None if speed is None else round(speed, 3),
        "ms_per_question": round(side.ms_per_question, 2),
    }


def _place(rank: int | None) -> str:
    from colsearcher.training.comparison import DEPTH

    return f"rank {rank}" if rank else f"not in the first {DEPTH}"
