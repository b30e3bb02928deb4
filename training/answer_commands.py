"""`colsearcher eval answers` and `colsearcher compare answers`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from colsearcher.agent.asking import Asking
from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import ProgressLine, show, show_json, tell
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.agent.calibration import Calibration
    from colsearcher.agent.source import Place
    from colsearcher.training.answer_evaluation import AnswerRecord
    from colsearcher.training.question import Question

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
    ("judged right", "judged"),
    ("logprob of answers", "logprob"),
    ("seconds, median", "seconds_p50"),
    ("seconds, 90 %", "seconds_p90"),
)


@dataclass(frozen=True)
class EvalAnswers(Asking):
    """Ask a policy every question and score what it answers: exact match, F1, cover match, ANLS, how often it searches, keeps
    the format and holds back, how long it takes, and with --judge whether a language model calls it right. Records with
    `context` paragraphs (HotpotQA style) need no index: the file's passages are the corpus. A run is a folder; the same
    command goes on with one that was stopped, and judges one that has ended."""

    qa: Path = option("JSONL of questions with accepted answers", metavar="QA.jsonl")
    out: Path = option("the folder of the run", metavar="DIR")
    baseline: Literal["closed-book", "one-shot", "oracle"] | None = option(
        "what an agent has to beat, in its place: closed-book shows the policy nothing, one-shot the best --documents pages of "
        "one search for the question, oracle the gold pages",
        default=None,
    )
    in_flight: int = option("so many questions side by side", default=16, metavar="N", within=COUNT)
    judge: str | None = option(
        "let this model say which answers are right: a policy by name (verdicts go into judged.jsonl)",
        default=None,
        metavar="NAME",
    )
    judge_engine: str = option("what runs the judge, as in --engine", default="transformers", metavar="NAME")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.source import Place
        from colsearcher.training.answer_evaluation import summarise_answers
        from colsearcher.training.answer_judge import read_verdicts, summarise_verdicts
        from colsearcher.training.questions import load_questions

        questions = load_questions(self.qa, self.limit)
        place = None
        if self.baseline != "closed-book":
            named = self.index is not None or self.search is not None
            place = Place.parse(self.index, self.search) if named else self._own_passages()
        policy, records = self._answer(questions, place)
        summary: dict[str, Any] = dict(summarise_answers(records))
        verdicts = read_verdicts(self.out, self._judge(records) if self.judge is not None else None)
        summary |= summarise_verdicts([verdicts[record.id] for record in records if record.id in verdicts])
        if self.json:
            show_json({**summary, "policy": policy, "run": str(self.out)})
            return 0
        for title, name in _SHOWN:
            if summary[name] is not None:
                spread = f"   {summary['f1_low']:.3f} to {summary['f1_high']:.3f} (95 %, bootstrap)" if name == "f1" else ""
                show(f"{title:<22}{summary[name]:>8.3f}{spread}")
        counted = f"{summary['questions']:.0f} questions, {summary['unanswerable']:.0f} without an answer"
        show(f"{counted}; every answer is in {self.out}")
        if summary["failed"]:
            show(f"{summary['failed']} failed with the search or the engine; the same command asks them again")
        return 0

    def _own_passages(self) -> Place:
        """The paragraphs that the questions bring along. With a limit the corpus stays that of the whole file, or fewer
        questions would be easier ones."""
        from colsearcher.agent.source import Place
        from colsearcher.training.questions import load_questions

        everything = load_questions(self.qa)
        with_context = [question for question in everything if question.context]
        if with_context and len(with_context) < len(everything):
            raise UserError(f"{self.qa} mixes questions with and without context; split it into two files.")
        if not with_context:
            raise UserError(f"The questions of {self.qa} are about an index; name it with --index DIR.")
        return Place("passages", str(self.qa))

    def _answer(self, questions: Sequence[Question], place: Place | None) -> tuple[str, list[AnswerRecord]]:
        """The policy's name, and the records of these questions after asking those that are missing."""
        from contextlib import nullcontext

        from colsearcher.agent.calibration import load_calibration
        from colsearcher.agent.engine import Sampling
        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.agent.record import Budgets
        from colsearcher.agent.roles import tell_roles
        from colsearcher.agent.source import open_source
        from colsearcher.training.answer_baselines import NOTHING
        from colsearcher.training.answer_evaluation import AnswerRun, evaluate_answers

        tell_roles(tell, policy=self.policy, engine=self.engine, place=place)
        with open_source(place, tell) if place else nullcontext(NOTHING) as source:
            policy = open_policy(self.policy, self.engine, self.protocol)
            tell(f"{policy.told}; {source.described if place else 'nothing is searched'}")
            # A calibration is of the agent's answers; those of a baseline have other probabilities.
            calibration = None if self.baseline else load_calibration(source.folder, policy.name, tell)
            variant = policy.protocol.variant
            named = f"{policy.engine.name}@{policy.engine.revision}"
            run = AnswerRun(self.out, self._config(named, variant, source.corpus, calibration))
            with ProgressLine("answering", len(questions), len(questions), things="questions") as line:
                evaluate_answers(
                    questions,
                    run,
                    policy.engine,
                    source,
                    policy.protocol,
                    # No limit of time: how long one takes depends on how many are in flight.
                    budgets=Budgets(searches=self.max_searches, documents=self.documents, seconds=math.inf),
                    sampling=Sampling(temperature=self.temperature, seed=self.seed),
                    calibration=calibration,
                    baseline=self.baseline,
                    in_flight=self.in_flight,
                    on_progress=lambda done, all: line.update(done, done),
                )
        wanted = {question.id for question in questions}
        return policy.engine.name, [record for record in run.records if record.id in wanted]

    def _judge(self, records: Sequence[AnswerRecord]) -> str:
        """Let the judge say what it has not said yet. Returns its name."""
        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.training.answer_judge import judge_answers

        judge = open_policy(self.judge or "", self.judge_engine)
        tell(f"judge: {judge.told}")
        with ProgressLine("judging", len(records), len(records), things="answers") as line:
            judge_answers(
                records,
                self.out,
                judge.engine,
                in_flight=self.in_flight,
                on_progress=lambda done, all: line.update(done, done),
            )
        return judge.name

    def _config(self, policy: str, protocol: str, corpus: str, calibration: Calibration | None) -> dict[str, Any]:
        """What makes answers comparable: all that a run may not change when it goes on."""
        settings = asdict(self)
        for name in ("out", "json", "limit", "in_flight", "judge", "judge_engine"):
            del settings[name]
        settings |= {"policy": policy, "protocol": protocol, "corpus": corpus}
        settings["qa_sha256"] = hashlib.sha256(self.qa.read_bytes()).hexdigest()
        unused = {
            None: ("baseline",),
            "closed-book": ("protocol", "max_searches", "documents", "index", "search", "corpus"),
            "one-shot": ("protocol", "max_searches"),
            "oracle": ("protocol", "max_searches", "documents"),
        }
        for name in unused[self.baseline]:
            del settings[name]
        if self.search is None:
            settings.pop("search", None)
        if self.engine == "transformers":
            del settings["engine"]
        if calibration is not None:
            settings["calibration"] = hashlib.sha256(repr(calibration).encode()).hexdigest()
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
        from colsearcher.training.answer_judge import read_verdicts

        a, b = read_verdicts(self.a), read_verdicts(self.b)
        same_judge = len({verdict.judge for verdict in (*a.values(), *b.values())}) == 1
        said = [{name: verdict.judged for name, verdict in verdicts.items() if same_judge} for verdicts in (a, b)]
        rows = compare_runs(read_records(self.a), read_records(self.b), (said[0], said[1]))
        if self.json:
            show_json({"a": str(self.a), "b": str(self.b), "metrics": rows})
            return 0
        show(f"{'':<8}{'a':>9}{'b':>9}{'b less a':>11}")
        for metric, row in rows.items():
            interval = f"{row['low']:+.4f} to {row['high']:+.4f}"
            show(f"{metric:<8}{row['a']:>9.4f}{row['b']:>9.4f}{row['difference']:>+11.4f}   {interval}")
        return 0
