"""`colsearcher calibrate`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from colsearcher.agent.embedded_policy import DEFAULT
from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT
from colsearcher.agent.terminal import ProgressLine, show, show_json, tell
from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from colsearcher.agent.opened_policy import OpenedPolicy
    from colsearcher.agent.source import Source
    from colsearcher.training.answer_evaluation import AnswerRecord
    from colsearcher.training.calibration_fit import Decisions, Fit


@dataclass(frozen=True)
class Calibrate:
    """Fit when to hold an answer back, on questions with and without an answer in what is searched: from how well the pages
    cover the question, how much of the answer stands on one, and how sure the policy was of its words. What it prints is
    cross-validated. Kept as calibration.json beside what is searched, where ask, chat and eval answers find it; kept only if
    it is not worse than the threshold that is built in. The same command goes on with answers that it has already."""

    index: Path | None = option("the index folder", default=None, metavar="DIR")
    search: str | None = option(
        "a file of passages or a URL instead; see `colsearcher ask --help`", default=None, metavar="SOURCE"
    )
    qa: Path | None = option("JSONL of questions with accepted answers", default=None, metavar="QA.jsonl")
    unanswerable: Path | None = option("JSONL of questions without gold pages", default=None, metavar="NONE.jsonl")
    run_: tuple[Path, ...] = option(
        "take the answers of this run of `eval answers`, ask nothing (may be given again)", default=(), metavar="DIR"
    )
    policy: str = option("see `colsearcher ask --help`", default=DEFAULT)
    engine: str = option("what runs the policy; see `colsearcher ask --help`", default="transformers", metavar="NAME")
    protocol: Literal["auto", "guided", "reasoning"] = option("see `colsearcher ask --help`", default="auto")
    max_searches: int = option("at most so many searches", default=3, metavar="N", within=COUNT)
    documents: int = option("pages per search", default=3, metavar="N", within=COUNT)
    in_flight: int = option("so many questions side by side", default=16, metavar="N", within=COUNT)
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.agent.calibration import shipped_calibration
        from colsearcher.agent.opened_policy import open_policy
        from colsearcher.agent.roles import tell_roles
        from colsearcher.agent.source import Place, open_source
        from colsearcher.training.calibration_fit import as_calibration, fit_calibration

        place = Place.parse(self.index, self.search)
        if bool(self.run_) == bool(self.qa or self.unanswerable) or (not self.run_ and not (self.qa and self.unanswerable)):
            raise UserError("Name the questions with --qa and --unanswerable, or the runs that answered them with --run.")
        if self.run_:
            policy, records = _read_runs(self.run_)
            with open_source(place, tell) as source:
                folder = source.folder
        else:
            tell_roles(tell, policy=self.policy, engine=self.engine, place=place)
            with open_source(place, tell) as source:
                opened = open_policy(self.policy, self.engine, self.protocol)
                tell(f"{opened.told}; {source.described}")
                policy, folder, records = opened.name, source.folder, self._answer(source, opened)
        fit = fit_calibration(records, shipped_calibration(policy))
        kept = as_calibration(fit, policy).save(folder) if fit.is_better else None
        if self.json:
            show_json({"policy": policy, **asdict(fit), "calibration": None if kept is None else str(kept)})
        else:
            _report(fit, kept)
        return 0

    def _answer(self, source: Source, policy: OpenedPolicy) -> list[AnswerRecord]:
        """Both files' questions, answered; in a run of their own beside what is searched, so that a stop costs nothing."""
        import math

        from colsearcher.agent.engine import Sampling
        from colsearcher.agent.record import Budgets
        from colsearcher.training.answer_evaluation import AnswerRun, evaluate_answers
        from colsearcher.training.questions import load_questions

        assert self.qa is not None and self.unanswerable is not None
        questions = [question for path in (self.qa, self.unanswerable) for question in load_questions(path)]
        if len({question.id for question in questions}) < len(questions):
            raise UserError(f"{self.qa} and {self.unanswerable} use one id twice; give each question its own.")
        config = {
            "policy": f"{policy.engine.name}@{policy.engine.revision}",
            "protocol": policy.protocol.variant,
            "source": str(source.place),
            "corpus": source.corpus,
            "models": dict(source.models),
            "max_searches": self.max_searches,
            "documents": self.documents,
            "qa_sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.qa, self.unanswerable)],
        }
        name = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
        run = AnswerRun(source.folder / "calibration-runs" / name, config)
        with ProgressLine("answering", len(questions), len(questions), things="questions") as line:
            evaluate_answers(
                questions,
                run,
                policy.engine,
                source,
                policy.protocol,
                budgets=Budgets(searches=self.max_searches, documents=self.documents, seconds=math.inf),
                sampling=Sampling(),
                in_flight=self.in_flight,
                on_progress=lambda done, all: line.update(done, done),
            )
        return run.records


def _read_runs(folders: Sequence[Path]) -> tuple[str, list[AnswerRecord]]:
    """The policy of some runs, and their records.

    Raises:
        UserError: one is no run, or they are of different policies.
    """
    from colsearcher.training.answer_evaluation import read_config, read_records

    policies = {str(read_config(folder).get("policy")) for folder in folders}
    if len(policies) > 1:
        raise UserError(f"The runs are of different policies ({', '.join(sorted(policies))}); calibrate each by itself.")
    name, _, revision = policies.pop().rpartition("@")
    return f"{name}@{revision[:12]}", [record for folder in folders for record in read_records(folder)]


def _report(fit: Fit, kept: Path | None) -> None:
    """Two lines of numbers, the curve, and where it went."""
    show(f"{'':<24}{'F1':>7}{'precision':>11}{'answered':>10}{'no answer: held back':>22}")
    show(_row("constant threshold", fit.default))
    if fit.shipped is not None:
        show(_row("as the policy comes", fit.shipped))
    show(_row("calibrated", fit.expected))
    show(f"F1 of giving right answers, cross-validated: {fit.expected.f1:.3f}, 95 % interval {_between(fit.f1_interval)}")
    show(f"calibrated less what is built in: {_between(fit.gain_interval)} (95 %, paired bootstrap)")
    show()
    show("threshold")
    for point in fit.curve:
        show(_row(f"  {point.threshold:.2f}", point.decisions))
    weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in fit.weights.items())
    show(f"fitted: threshold {fit.threshold:.2f}; {weights}; bias {fit.bias:+.2f}")
    show(f"{fit.questions} questions, of which {fit.right} were answered right, and {fit.unanswerable} without an answer")
    if kept is None:
        show("not kept: on questions that it has not seen it decides worse than what is built in; take more questions")
    else:
        show(f"kept in {kept}; ask, chat and eval answers use it for this policy")


def _row(title: str, decisions: Decisions) -> str:
    precision = "–" if decisions.precision is None else f"{decisions.precision:.3f}"
    return f"{title:<24}{decisions.f1:>7.3f}{precision:>11}{decisions.answered:>10.3f}{decisions.held_back:>22.3f}"


def _between(interval: tuple[float, float]) -> str:
    return f"{interval[0]:+.3f} to {interval[1]:+.3f}"
