"""Fit when to hold an answer back, on questions whose answers are known, and say honestly what that gains.

A logistic regression from the measures of an answer to whether it is right, and the threshold on it that gives the best F1 of
«give or hold back»: right answers given, over those and half of what went wrong (wrong ones given, right ones held back). What
is reported is cross-validated: each question is decided by a fit that has not seen it. After Kamath, Jia and Liang, «Selective
question answering under domain shift» (2020), who train a calibrator on the answers of a fixed model likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from colsearcher.agent.answer import QUESTION_COVERAGE
from colsearcher.agent.calibration import Calibration, Confidence
from colsearcher.indexes.errors import UserError
from colsearcher.training.answer_evaluation import AnswerRecord

MEASURES = tuple(Confidence.__dataclass_fields__)
FOLDS = 5
_RIDGE = 1.0  # on standardised weights: a handful of right answers must not give certainty
_POINTS = 8


@dataclass(frozen=True)
class Decisions:
    """What giving some answers and holding the others back comes to.

    Attributes:
        f1: of giving right answers; see the module.
        precision: share of right ones among the answers given, None where none is.
        answered: share of the answerable questions that are given an answer.
        held_back: share of the others that are not.
    """

    f1: float
    precision: float | None
    answered: float
    held_back: float


@dataclass(frozen=True)
class CurvePoint:
    """The decisions at one threshold, each question's probability from a fit that has not seen it."""

    threshold: float
    decisions: Decisions


@dataclass(frozen=True)
class Fit:
    """A calibration, and what to expect of it.

    Attributes:
        weights, bias, threshold: see `Calibration`.
        expected: cross-validated.
        f1_interval: of its F1, 95 %, bootstrap over questions.
        default: what the constant threshold decides on the same questions.
        shipped: what the calibration that the policy comes with decides on them, None where it comes with none.
        gain_interval: of the F1 less that of what would decide without the fit, paired.
        right: how many answers are right.
    """

    weights: dict[str, float]
    bias: float
    threshold: float
    expected: Decisions
    f1_interval: tuple[float, float]
    default: Decisions
    shipped: Decisions | None
    gain_interval: tuple[float, float]
    curve: tuple[CurvePoint, ...]
    questions: int
    unanswerable: int
    right: int

    @property
    def is_better(self) -> bool:
        """Not worse than what would decide without it, on questions that it has not seen."""
        return self.expected.f1 >= (self.shipped or self.default).f1


def fit_calibration(
    records: Sequence[AnswerRecord], shipped: Calibration | None = None, *, resamples: int = 2000, seed: int = 0
) -> Fit:
    """Fit on the records of a run, of answerable and unanswerable questions.

    An answer is right where an accepted one stands in it, and can be given where it is sound (`Answer.sound`).

    Args:
        shipped: what the policy comes with, which would decide without the fit; None for the constant threshold.

    Raises:
        UserError: a kind of question is missing, too few answers are right or wrong, or the run is from before measures were
            written down.
    """
    records = [record for record in records if not record.failed]
    answerable = np.array([record.answerable for record in records], bool)
    if not answerable.any() or answerable.all():
        raise UserError("Calibrating needs answerable and unanswerable questions; name them with --qa and --unanswerable.")
    if not any(record.confidence for record in records):
        raise UserError("The answers hold no measures to calibrate on; answer the questions again with this version.")
    right = np.array([record.answerable and record.cem == 1.0 for record in records])
    sound = np.array([record.sound for record in records])
    measured = np.array([record.confidence is not None for record in records])
    values_N_M = np.array([_values(record.confidence) for record in records])
    folds = min(FOLDS, int(right[measured].sum()), int((~right)[measured].sum()))
    if folds < 2:
        raise UserError(
            f"Of {len(records)} answers {int(right.sum())} are right, and calibrating needs at least two right and two wrong "
            "ones; take more questions or another policy."
        )
    probabilities, given = np.zeros(len(records)), np.zeros(len(records), bool)
    fold_of = _folds(right * 2 + answerable, folds, seed)
    for fold in range(folds):
        train, held_out = fold_of != fold, fold_of == fold
        weights, bias, threshold = _fit(values_N_M, right, sound, measured, train)
        probabilities[held_out] = _sigmoid(values_N_M[held_out] @ weights + bias)
        given[held_out] = sound[held_out] & (probabilities[held_out] >= threshold)
    weights, bias, threshold = _fit(values_N_M, right, sound, measured, np.ones(len(records), bool))
    by_default = sound & (values_N_M[:, MEASURES.index("coverage")] >= QUESTION_COVERAGE)
    as_it_comes = sound & measured & (_probabilities(shipped, values_N_M) >= shipped.threshold) if shipped else None
    without = by_default if as_it_comes is None else as_it_comes
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(records), len(records)) for _ in range(resamples)]
    f1s = np.array([(_f1(given[rows], right[rows]), _f1(without[rows], right[rows])) for rows in drawn])
    return Fit(
        dict(zip(MEASURES, (round(float(weight), 6) for weight in weights), strict=True)),
        round(float(bias), 6),
        round(float(threshold), 6),
        _decisions(given, right, answerable),
        _interval(f1s[:, 0]),
        _decisions(by_default, right, answerable),
        None if as_it_comes is None else _decisions(as_it_comes, right, answerable),
        _interval(f1s[:, 0] - f1s[:, 1]),
        _curve(probabilities, sound, right, answerable),
        int(answerable.sum()),
        int((~answerable).sum()),
        int(right.sum()),
    )


def as_calibration(fit: Fit, policy: str) -> Calibration:
    """What is kept beside the index."""
    report = {
        "questions": fit.questions,
        "unanswerable": fit.unanswerable,
        "right": fit.right,
        "cross_validated": asdict(fit.expected),
        "f1_interval_95": list(fit.f1_interval),
        "default": asdict(fit.default),
    }
    return Calibration(policy, fit.weights, fit.bias, fit.threshold, report)


def _probabilities(calibration: Calibration, values_N_M: np.ndarray) -> np.ndarray:
    return _sigmoid(values_N_M @ [calibration.weights[name] for name in MEASURES] + calibration.bias)


def _values(confidence: Confidence | None) -> list[float]:
    return [getattr(confidence, name) if confidence else 0.0 for name in MEASURES]


def _folds(kinds: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each question, every kind spread evenly."""
    order = np.random.default_rng(seed).permutation(len(kinds))
    order = order[np.argsort(kinds[order], kind="stable")]
    fold_of = np.empty(len(kinds), int)
    fold_of[order] = np.arange(len(kinds)) % folds
    return fold_of


def _fit(
    values_N_M: np.ndarray, right: np.ndarray, sound: np.ndarray, measured: np.ndarray, train: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Weights, bias and threshold from the questions in `train`."""
    rows = train & measured
    weights, bias = logistic(values_N_M[rows], right[rows])
    probabilities = _sigmoid(values_N_M @ weights + bias)
    return weights, bias, best_threshold(probabilities[train], sound[train], right[train])


def logistic(values_N_M: np.ndarray, right_N: np.ndarray, ridge: float = _RIDGE) -> tuple[np.ndarray, float]:
    """Weights (M,) and bias of a ridge-penalised logistic regression on standardised columns, by Newton's method, given for
    the columns as they are."""
    mean, scale = values_N_M.mean(0), values_N_M.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = np.column_stack([(values_N_M - mean) / scale, np.ones(len(values_N_M))])
    penalty = np.diag([ridge] * values_N_M.shape[1] + [1e-6])
    beta = np.zeros(x.shape[1])
    for _ in range(100):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (p - right_N) + penalty @ beta
        step = np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + penalty, gradient)
        beta -= step
        if np.abs(step).max() < 1e-9:
            break
    weights = beta[:-1] / scale
    return weights, float(beta[-1] - weights @ mean)


def best_threshold(probabilities: np.ndarray, sound: np.ndarray, right: np.ndarray) -> float:
    """The threshold with the best F1, half way between two answers; of equally good ones the one in the middle.

    >>> p = np.array([0.9, 0.8, 0.4, 0.2])
    >>> round(best_threshold(p, np.ones(4, bool), np.array([True, True, False, False])), 6)
    0.6
    """
    there = np.unique(probabilities[sound])
    if not len(there):
        return 0.5
    candidates = np.concatenate([[there[0] / 2], (there[1:] + there[:-1]) / 2, [(there[-1] + 1) / 2]])
    scores = np.array([_f1(sound & (probabilities >= threshold), right) for threshold in candidates])
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(candidates[best[len(best) // 2]])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


def _f1(given: np.ndarray, right: np.ndarray) -> float:
    good = int((given & right).sum())
    wrong = int(given.sum()) + int(right.sum()) - 2 * good
    return 2 * good / (2 * good + wrong) if good else 0.0


def _decisions(given: np.ndarray, right: np.ndarray, answerable: np.ndarray) -> Decisions:
    precision = _share(right[given]) if given.any() else None
    return Decisions(round(_f1(given, right), 4), precision, _share(given[answerable]), _share(~given[~answerable]))


def _share(values: np.ndarray) -> float:
    return round(float(values.mean()), 4)


def _curve(probabilities: np.ndarray, sound: np.ndarray, right: np.ndarray, answerable: np.ndarray) -> tuple[CurvePoint, ...]:
    """From the most careful threshold to giving all that is sound."""
    there = np.unique(probabilities[sound])[::-1]
    picked = (
        there[np.unique(np.linspace(0, len(there) - 1, min(_POINTS, len(there))).round().astype(int))] if len(there) else there
    )
    return tuple(
        CurvePoint(round(float(threshold), 4), _decisions(sound & (probabilities >= threshold), right, answerable))
        for threshold in picked
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)
