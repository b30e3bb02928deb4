"""`colsearcher eval retrieval | mteb`, `colsearcher bench codecs | search`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import show, show_json, tell
from colsearcher.indexes.errors import UserError


@dataclass(frozen=True)
class EvalRetrieval:
    """Score the ranking on questions with known pages, beside late interaction alone, BM25 and mean-pooled vectors of the
    same model. Records with `context` paragraphs (HotpotQA style) need no index."""

    qa: Path = option("JSONL of questions with evidence pages", metavar="QA.jsonl")
    index: Path | None = option("the index folder", default=None, metavar="DIR")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    no_baselines: bool = option("the default ranking only", default=False)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.retrieval.embedder import load_embedder
        from colsearcher.retrieval.searcher import Searcher
        from colsearcher.training.questions import load_questions
        from colsearcher.training.retrieval_evaluation import context_searcher, evaluate_retrieval

        questions = load_questions(self.qa, self.limit)
        with_context = [question for question in questions if question.context]
        if with_context and len(with_context) < len(questions):
            raise UserError(f"{self.qa} mixes questions with and without context; split it into two files.")
        if not with_context and self.index is None:
            raise UserError(f"The questions of {self.qa} are about an index; name it with --index DIR.")
        opened = context_searcher(questions, load_embedder()) if with_context else Searcher.open(self.index or Path())
        if with_context:
            tell("indexing the questions' own paragraphs")
        with opened as searcher:
            scores = evaluate_retrieval(searcher, questions, baselines=not self.no_baselines, on_progress=tell)
        if self.json:
            show_json(
                {
                    **scores.rankings["default"],
                    "questions": scores.questions,
                    "unanswerable_left_out": scores.unanswerable,
                    "pages": scores.pages,
                    "ms_per_question": round(scores.ms_per_question, 1),
                    "rankings": {name: dict(metrics) for name, metrics in scores.rankings.items()},
                }
            )
            return 0
        names = list(next(iter(scores.rankings.values())))
        show(f"{'':<18}" + "".join(f"{name:>11}" for name in names))
        for ranking, metrics in scores.rankings.items():
            show(f"{ranking:<18}" + "".join(f"{metrics[name]:>11.3f}" for name in names))
        show(
            f"{scores.questions} questions, {scores.pages:,} pages, {scores.ms_per_question:.0f} ms per question (default); "
            f"{scores.unanswerable} without gold pages left out"
        )
        return 0


@dataclass(frozen=True)
class EvalMteb:
    """Score an embedder on mteb's retrieval tasks (ViDoRe V1 to V3 among them) through this project's index and scoring.
    --tasks takes a task, a benchmark such as "ViDoRe(v2)", or several with commas between them. mteb loads the data from the
    Hugging Face hub and writes results/MODEL/REVISION/TASK.json under --out; a task that is there already is not run again."""

    tasks: tuple[str, ...] = option("a task or a benchmark (may be given again)", metavar="NAME")
    out: Path = option("where mteb writes its results", metavar="DIR")
    embedder: str = option("what turns pages into vectors", default="minilm")
    ranking: Literal["late", "default"] = option("late interaction alone, or fused with the pages' words", default="late")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.retrieval.embedder import load_embedder
        from colsearcher.training.mteb_evaluation import evaluate_tasks, find_tasks

        # The name of a benchmark may have a comma in its brackets.
        tasks = find_tasks([name.strip() for names in self.tasks for name in re.split(r",(?![^(]*\))", names)])
        embedder = load_embedder(self.embedder)
        tell(f"embedder {embedder.name} on {embedder.device}")
        scores, missing = evaluate_tasks(embedder, tasks, self.out, ranking=self.ranking, tell=tell)
        if not scores:
            name, reason = next(iter(missing.items()))
            raise UserError(f"No task could be run; {name}: {reason}")
        means = {
            "ndcg@5": sum(row.ndcg_5 for row in scores) / len(scores),
            "ndcg@10": sum(row.ndcg_10 for row in scores) / len(scores),
            "recall@5": sum(row.recall_5 for row in scores) / len(scores),
            "main_score": sum(row.main_score for row in scores) / len(scores),
        }
        if self.json:
            show_json(
                {
                    "embedder": embedder.name,
                    "revision": embedder.revision,
                    "ranking": self.ranking,
                    "tasks": [
                        {
                            "task": row.task,
                            "ndcg@5": row.ndcg_5,
                            "ndcg@10": row.ndcg_10,
                            "recall@5": row.recall_5,
                            "main": row.main,
                            "main_score": row.main_score,
                        }
                        for row in scores
                    ],
                    "mean": {name: round(value, 5) for name, value in means.items()},
                    "not_run": missing,
                    "results": str(self.out / "results"),
                }
            )
            return 0
        width = max(len(row.task) for row in scores) + 2
        show(f"{'':<{width}}{'ndcg@5':>9}{'ndcg@10':>9}{'recall@5':>10}  main score")
        for row in scores:
            show(f"{row.task:<{width}}{row.ndcg_5:>9.4f}{row.ndcg_10:>9.4f}{row.recall_5:>10.4f}  {row.main}")
        show(f"{'mean':<{width}}{means['ndcg@5']:>9.4f}{means['ndcg@10']:>9.4f}{means['recall@5']:>10.4f}")
        show(f"results in {self.out / 'results'}")
        return 0


@dataclass(frozen=True)
class BenchCodecs:
    """Store the pages of an index with each codec, alone, and ask questions of every copy: bytes of a vector, the share of
    the exact top ten that is found, and nDCG@5 against the gold pages. The index is not changed."""

    qa: Path = option("JSONL of questions; those with evidence pages count for nDCG", metavar="QA.jsonl")
    index: Path = option("the index folder", metavar="DIR")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.retrieval.searcher import Searcher
        from colsearcher.training.codec_evaluation import evaluate_codecs
        from colsearcher.training.questions import load_questions

        with Searcher.open(self.index) as searcher:
            scores = evaluate_codecs(searcher, load_questions(self.qa, self.limit), tell=tell)
        if self.json:
            show_json({"codecs": [asdict(row) for row in scores]})
            return 0
        show(f"{'codec':<8}{'bytes per vector':>18}{'recall@10':>12}{'ndcg@5, late':>15}{'ndcg@5':>10}")
        for row in scores:
            late, default = (f"{value:.4f}" if value is not None else "–" for value in (row.late_ndcg, row.ndcg))
            show(f"{row.codec:<8}{row.bytes_per_vector:>18}{row.recall:>12.4f}{late:>15}{default:>10}")
        return 0


@dataclass(frozen=True)
class BenchSearch:
    """Time this project's search beside its peers, on the same page vectors in the same run. What it makes and installs
    (vectors, peers' environments, indexes, a plot) it keeps under --out; run again, it makes only what is missing and
    measures everything anew. An engine that cannot be measured is a row that says why."""

    preset: Literal["small", "10k", "50k", "100k"] = option("6,000 passages, or so many pages", default="small")
    data: Path | None = option(
        "the data folder; without it ../shared/data, or synthetic vectors where that is absent", default=None, metavar="DIR"
    )
    out: Path = option("where everything is kept", default=Path("build/bench"), metavar="DIR")
    only: tuple[str, ...] = option("measure this engine (may be given again)", default=(), metavar="ENGINE")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.training.search_bench.bench import bench_search, table
        from colsearcher.training.search_bench.presets import PRESETS

        report = bench_search(PRESETS[self.preset], data=self.data, out=self.out, only=self.only, tell=tell)
        if self.json:
            show_json(report)
            return 0
        for text in table(report["rows"]):
            show(text)
        show(f"plot: {report['plot']}")
        show(f"vectors: {report['vectors']}")
        show(f"machine: {report['machine']}")
        return 0
