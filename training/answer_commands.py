"""`colsearcher eval answers` and `colsearcher compare answers`."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from colsearcher.agent.flags import option
from colsearcher.agent.terminal import ProgressLine, show, show_json, tell
from colsearcher.indexes.errors import UserError

_SHOWN = (
    ("exact match", "em"),
    ("F1", "f1"),
    ("cover match", "cem"),
    ("ANLS", "anls"),
    ("F1 of answers given", "f1_given"),
    ("held back", "abstained_rate"),
    ("held back, no answer", "held_back_rate"),
    ("search rate", "search_rate"),
    ("searches", "searches"),
    ("gold pages found", "gold_found"),
    ("format kept", "format_rate"),
    ("seconds a question", "seconds"),
)


@dataclass(frozen=True)
class EvalAnswers:
    """Ask a policy every question and score what it answers: exact match, F1, cover match, ANLS, how often it searches, keeps
    the format and holds back. Records with `context` paragraphs (HotpotQA style) need no index: the file's passages are the
    corpus. A run is a folder; the same command goes on with one that was stopped."""

    qa: Path = option("JSONL of questions with accepted answers", metavar="QA.jsonl")
    out: Path = option("the folder of the run", metavar="DIR")
    index: Path | None = option("the index folder", default=None, metavar="DIR")
    policy: str = option("embedded, a model folder or a hub id", default="embedded")
    protocol: Literal["auto", "guided", "reasoning"] = option(
        "who writes the tags: guided (the environment), reasoning (the policy); auto: guided for the embedded policy",
        default="auto",
    )
    max_searches: int = option("at most so many searches", default=3, metavar="N")
    documents: int = option("pages per search", default=3, metavar="N")
    temperature: float = option("0 is greedy", default=0.0)
    seed: int = option("of the sampling", default=0)
    limit: int | None = option("only the first so many questions", default=None, metavar="N")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.engine import Sampling
        from colsearcher.agent.policy import load_policy
        from colsearcher.agent.protocol import GUIDED, REASONING
        from colsearcher.agent.record import Budgets
        from colsearcher.agent.source import PageRetriever
        from colsearcher.agent.transformers_engine import TransformersEngine
        from colsearcher.retrieval.embedder import load_embedder
        from colsearcher.retrieval.searcher import Searcher
        from colsearcher.training.answer_evaluation import AnswerRun, evaluate_answers, summarise_answers
        from colsearcher.training.questions import load_questions
        from colsearcher.training.retrieval_evaluation import context_searcher

        questions = load_questions(self.qa, self.limit)
        # With a limit the corpus stays that of the whole file, or fewer questions would be easier ones.
        everything = load_questions(self.qa)
        with_context = [question for question in everything if question.context]
        if with_context and len(with_context) < len(everything):
            raise UserError(f"{self.qa} mixes questions with and without context; split it into two files.")
        if not with_context and self.index is None:
            raise UserError(f"The questions of {self.qa} are about an index; name it with --index DIR.")
        opened = context_searcher(everything, load_embedder()) if with_context else Searcher.open(self.index or Path())
        with opened as searcher:
            policy = load_policy(self.policy)
            tell(f"{policy.describe()}; embedder {searcher.embedder.name} on {searcher.embedder.device}")
            guided = self.protocol == "guided" or (self.protocol == "auto" and self.policy == "embedded")
            run = AnswerRun(self.out, self._config(f"{policy.name}@{policy.revision}", guided))
            with ProgressLine("answering", len(questions), len(questions), things="questions") as line:
                evaluate_answers(
                    questions,
                    run,
                    TransformersEngine(policy),
                    lambda question: PageRetriever(searcher),
                    GUIDED if guided else REASONING,
                    budgets=Budgets(searches=self.max_searches, documents=self.documents),
                    sampling=Sampling(temperature=self.temperature, seed=self.seed),
                    weight=searcher.index.word_weight,
                    on_progress=lambda done, all: line.update(done, done),
                )
        wanted = {question.id for question in questions}
        summary = summarise_answers([record for record in run.records if record.id in wanted])
        if self.json:
            show_json({**summary, "policy": policy.name, "run": str(self.out)})
            return 0
        for title, name in _SHOWN:
            spread = f"   {summary['f1_low']:.3f} to {summary['f1_high']:.3f} (95 %, bootstrap)" if name == "f1" else ""
            show(f"{title:<22}{summary[name]:>8.3f}{spread}")
        counted = f"{summary['questions']:.0f} questions, {summary['unanswerable']:.0f} without an answer"
        show(f"{counted}; every answer is in {self.out}")
        return 0

    def _config(self, policy: str, guided: bool) -> dict[str, Any]:
        """What makes answers comparable: all that a run may not change when it goes on."""
        settings = asdict(self)
        for name in ("out", "json", "limit"):
            del settings[name]
        settings |= {"policy": policy, "protocol": "guided" if guided else "reasoning"}
        settings["qa_sha256"] = hashlib.sha256(self.qa.read_bytes()).hexdigest()
        return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}


@dataclass(frozen=True)
class CompareAnswers:
    """Two runs of `eval answers`, question by question: the means of both, and the difference with its 95 % interval (paired
    bootstrap)."""

    a: Path = option("the folder of a run", metavar="DIR")
    b: Path = option("the folder of the other", metavar="DIR")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.training.answer_evaluation import compare_runs, read_records

        rows = compare_runs(read_records(self.a), read_records(self.b))
        if self.json:
            show_json({"a": str(self.a), "b": str(self.b), "metrics": rows})
            return 0
        show(f"{'':<8}{'a':>9}{'b':>9}{'b less a':>11}")
        for metric, row in rows.items():
            interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
            show(f"{metric:<8}{row['a']:>9.4f}{row['b']:>9.4f}{row['difference']:>+11.4f}   {interval}")
        return 0
