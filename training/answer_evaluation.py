"""Ask a policy every question of a file and score what it says. A run is a folder and goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from colsearcher.agent.answer import make_answer, without_citations
from colsearcher.agent.calibration import Calibration, Confidence
from colsearcher.agent.engine import Engine, Sampling, StopReason
from colsearcher.agent.protocol import Protocol
from colsearcher.agent.record import Budgets, Rollout, Task
from colsearcher.agent.rollout import run_rollouts
from colsearcher.agent.source import Source
from colsearcher.indexes.errors import UserError
from colsearcher.training.answer_baselines import Baseline, baseline_rollouts
from colsearcher.training.answer_metrics import score_answer
from colsearcher.training.question import Question
from colsearcher.training.retrieval_metrics import bootstrap_interval
from colsearcher.training.run_folder import whole_lines

METRICS = ("em", "f1", "cem", "anls")
_CONFIG, _RECORDS = "config.json", "answers.jsonl"
FAILED = (StopReason.ENGINE_FAILED, StopReason.RETRIEVER_FAILED)
"""A question that ended so says nothing about the policy: it is asked again when the run goes on."""


@dataclass(frozen=True)
class AnswerRecord:
    """One question of a run.

    Attributes:
        written: what the policy wrote as its answer, None for none.
        given: what the reader is given after the checks, None where the answer was held back.
        em, f1, cem, anls: of `written` against the accepted answers, without its citations.
        found: the share of the gold pages that it was shown; None where it cannot be told, because no gold page is known (or
            there is none) or the source has other names for pages.
        kept_format: the transcript has no problem in it, and the policy wrote all tags itself.
        answerable: the corpus has an answer to the question.
        seconds: from its beginning to its end, beside all others that were in flight.
        confidence, sound: see `Answer`.
    """

    id: str
    question: str
    accepted: tuple[str, ...]
    written: str | None
    given: str | None
    citations: tuple[str, ...]
    queries: tuple[str, ...]
    found: float | None
    em: float
    f1: float
    cem: float
    anls: float
    kept_format: bool
    answerable: bool
    stop: str
    policy_tokens: int
    seconds: float
    confidence: Confidence | None = None
    sound: bool = False

    @property
    def failed(self) -> bool:
        return self.stop in FAILED


class AnswerRun:
    """The folder of a run: `config.json` and a line in `answers.jsonl` per question, written when it is answered. Of a question
    that was asked again the last line counts.

    Raises:
        UserError: the folder holds a run with another configuration.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._path = folder / _RECORDS
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / _CONFIG
        if known.exists():
            before = read_config(folder)
            changed = [name for name in {**before, **config} if before.get(name) != config.get(name)]
            if changed:
                raise UserError(f"{folder} holds a run with another {changed[0]}; name another folder with --out.")
        known.write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.records = read_records(folder) if self._path.exists() else []

    def add(self, record: AnswerRecord) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        self.records = [*(known for known in self.records if known.id != record.id), record]


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        UserError: the folder holds no run.
    """
    path = folder / _CONFIG
    if not path.is_file():
        raise UserError(f"{folder} holds no answers; name the folder that `eval answers --out` wrote.")
    return json.loads(path.read_text(encoding="utf-8"))


def read_records(folder: Path) -> list[AnswerRecord]:
    """What a run has answered; a last line that a kill cut short is left out, and written again when the run goes on.

    Raises:
        UserError: the folder holds no run.
    """
    path = folder / _RECORDS
    if not path.is_file():
        raise UserError(f"{folder} holds no answers; name the folder that `eval answers --out` wrote.")
    records: dict[str, AnswerRecord] = {}
    for line in whole_lines(path):
        values = json.loads(line)
        lists = {name: tuple(values[name]) for name in ("accepted", "citations", "queries")}
        confidence = Confidence(**values["confidence"]) if values.get("confidence") else None
        records.pop(values["id"], None)
        records[values["id"]] = AnswerRecord(**{**values, **lists, "confidence": confidence})
    return list(records.values())


def evaluate_answers(
    questions: Sequence[Question],
    run: AnswerRun,
    engine: Engine,
    source: Source,
    protocol: Protocol,
    *,
    budgets: Budgets,
    sampling: Sampling,
    calibration: Calibration | None = None,
    baseline: Baseline | None = None,
    in_flight: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, all: None,
) -> None:
    """Ask what the run lacks, `in_flight` questions side by side, and write each down as it ends.

    Args:
        baseline: ask in this way and not as the agent, without the protocol.
        on_progress: called with how many of how many are done.

    Raises:
        UserError: see `baseline_rollouts`.
    """
    known = {record.id for record in run.records if not record.failed}
    missing = [question for question in questions if question.id not in known]
    done = len(questions) - len(missing)
    on_progress(done, len(questions))
    if baseline is not None:
        ended = baseline_rollouts(baseline, missing, engine, source, budgets, sampling, in_flight=in_flight)
    else:
        tasks = (Task(question.text, sampling) for question in missing)
        ended = run_rollouts(tasks, engine, source.retriever, protocol, budgets, viewer=source.viewer, in_flight=in_flight)
    for number, rollout in ended:
        run.add(_record(missing[number], rollout, source, calibration))
        done += 1
        on_progress(done, len(questions))


def _record(question: Question, rollout: Rollout, source: Source, calibration: Calibration | None) -> AnswerRecord:
    answer = make_answer(rollout, source.weight, calibration)
    written = without_citations(answer.written).strip() if answer.written else None
    seen = {(page.address.document, page.address.page) for search in rollout.searches for page in search.passages}
    gold = {(place.document, place.page) for place in question.evidence}
    comparable = source.place.kind != "service"
    return AnswerRecord(
        question.id,
        question.text,
        question.answers,
        written,
        answer.text,
        tuple(map(str, answer.citations)),
        # Pages that nobody asked for are no search; an agent's search without words has a notice in place of pages.
        tuple(search.query for search in rollout.searches if search.query or search.notice),
        len(seen & gold) / len(gold) if gold and comparable else None,
        **asdict(score_answer(written, question.answers if question.answerable else ())),
        kept_format=not rollout.parsed.problems and not rollout.parsed.scaffolded,
        answerable=question.answerable,
        stop=str(rollout.stop),
        policy_tokens=sum(rollout.mask),
        seconds=round(rollout.timing_s["total"], 3),
        confidence=answer.confidence,
        sound=answer.sound,
    )


def summarise_answers(records: Sequence[AnswerRecord]) -> dict[str, float | None]:
    """Means over the answerable questions, and what became of the others. None for what was not measured; `gold_found` leaves
    out the questions of which it cannot be told.

    `abstained_rate` is over the answerable ones, `held_back_rate` over those without an answer in the corpus, where
    holding back is right; `f1_given` is the F1 of the answers that were given; `logprob` is the mean of the answers' own
    means; `failed` counts what the engine or the search failed on, with an answer of nothing in all means.
    """
    asked = [record for record in records if record.answerable]
    others = [record for record in records if not record.answerable]
    if not asked and not others:
        raise UserError("The run has no answers yet.")
    summary: dict[str, float | None] = {metric: _mean([getattr(record, metric) for record in asked]) for metric in METRICS}
    given = [record.f1 for record in asked if record.given is not None]
    low, high = bootstrap_interval(np.array([record.f1 for record in asked])) if asked else (None, None)
    seconds = [record.seconds for record in records]
    logprobs = [record.confidence.logprob for record in records if record.confidence]
    found = [record.found for record in asked if record.found is not None]
    return {
        **summary,
        "f1_low": None if low is None else round(low, 4),
        "f1_high": None if high is None else round(high, 4),
        "f1_given": _mean(given),
        "abstained_rate": _mean([float(record.given is None) for record in asked]),
        "held_back_rate": _mean([float(record.given is None) for record in others]),
        "search_rate": _mean([float(bool(record.queries)) for record in records]),
        "searches": _mean([float(len(record.queries)) for record in records]),
        "gold_found": _mean(found),
        "format_rate": _mean([float(record.kept_format) for record in records]),
        "seconds": _mean(seconds),
        "seconds_p50": round(float(np.percentile(seconds, 50)), 3),
        "seconds_p90": round(float(np.percentile(seconds, 90)), 3),
        "logprob": _mean(logprobs),
        "failed": sum(record.failed for record in records),
        "questions": len(asked),
        "unanswerable": len(others),
    }


def compare_runs(
    a: Sequence[AnswerRecord],
    b: Sequence[AnswerRecord],
    judged: tuple[Mapping[str, bool | None], Mapping[str, bool | None]] = ({}, {}),
) -> dict[str, dict[str, float]]:
    """For each metric the means of both on the questions that both answered, and the difference with its interval.

    Args:
        judged: what a judge said of the answers of either by question; where it said something of both, that is a row too.

    Raises:
        UserError: they have no answerable question in common.
    """
    other = {record.id: record for record in b if record.answerable}
    pairs = [(record, other[record.id]) for record in a if record.answerable and record.id in other]
    if not pairs:
        raise UserError("The two runs have no answerable question in common.")
    values = {metric: [(getattr(left, metric), getattr(right, metric)) for left, right in pairs] for metric in METRICS}
    verdicts = [(judged[0].get(left.id), judged[1].get(left.id)) for left, _ in pairs]
    if both := [(float(x), float(y)) for x, y in verdicts if x is not None and y is not None]:
        values["judged"] = both
    rows = {}
    for metric, scores in values.items():
        left, right = np.array(scores, float).T
        low, high = bootstrap_interval(right - left)
        means = {"a": float(left.mean()), "b": float(right.mean()), "difference": float((right - left).mean())}
        rows[metric] = {name: round(value, 4) for name, value in {**means, "low": low, "high": high}.items()}
    return rows


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
