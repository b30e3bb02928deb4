"""Calibration: fitted beside slow references, cross-validated, kept, and picked up."""

import doctest
import json
from dataclasses import replace

import command_line
import numpy as np
import pytest
from command_line import answer, call, complaint
from fake_engine import ScriptedEngine
from fake_retriever import Shelf
from scipy.optimize import minimize

from colsearcher.agent import calibration as calibration_module
from colsearcher.agent.answer import make_answer
from colsearcher.agent.calibration import Calibration, Confidence, load_calibration, shipped_calibration
from colsearcher.agent.embedded_policy import DEFAULT, EMBEDDED, TRAINED
from colsearcher.agent.protocol import REASONING
from colsearcher.agent.rollout import run_rollout
from colsearcher.indexes.errors import UserError
from colsearcher.training import calibration_fit
from colsearcher.training.answer_evaluation import AnswerRecord, AnswerRun
from colsearcher.training.calibration_fit import as_calibration, best_threshold, fit_calibration, logistic

RECORD = AnswerRecord("a", "?", ("x",), "x", "x", (), ("q",), 1.0, 1, 1, 1.0, 1, True, True, "answered", 5, 1.0)


def test_doctests():
    assert doctest.testmod(calibration_module).failed == doctest.testmod(calibration_fit).failed == 0


def records(count, seed, informative=True):
    """Answers of which the sure ones are mostly right; a fifth of the questions have no answer."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        answerable = number % 5 != 0
        right = answerable and rng.random() < 0.5
        sure = rng.normal(-0.3 if right or not informative else -1.5, 0.3)
        measures = Confidence(round(float(rng.uniform(0.2, 1)), 4), round(float(rng.uniform(0.7, 1)), 4), round(float(sure), 4))
        made.append(
            replace(
                RECORD, id=str(number), answerable=answerable, cem=float(right), sound=rng.random() < 0.9, confidence=measures
            )
        )
    return made


def test_the_regression_is_the_one_of_a_general_optimiser():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3)) * [0.2, 1.0, 5.0] + [0.5, 0.0, -3.0]
    y = rng.random(60) < 1 / (1 + np.exp(-(x @ [3.0, 1.0, -0.2])))
    weights, bias = logistic(x, y, ridge=1.0)
    scale = x.std(0)

    def loss(beta):
        z = ((x - x.mean(0)) / scale) @ beta[:3] + beta[3]
        return np.logaddexp(0, np.where(y, -z, z)).sum() + 0.5 * (beta[:3] ** 2).sum()

    reference = minimize(loss, np.zeros(4)).x
    np.testing.assert_allclose(weights, reference[:3] / scale, rtol=1e-3, atol=1e-4)
    assert bias == pytest.approx(reference[3] - weights @ x.mean(0), abs=1e-2)


def test_the_threshold_is_the_best_of_all():
    rng = np.random.default_rng(2)
    for _ in range(20):
        p, sound, right = rng.random(12), rng.random(12) < 0.8, rng.random(12) < 0.4
        given = {t: sound & (p >= t) for t in np.linspace(0, 1, 500)}
        f1 = {t: 2 * (g & right).sum() / max(1, g.sum() + right.sum()) for t, g in given.items()}
        chosen = sound & (p >= best_threshold(p, sound, right))
        assert 2 * (chosen & right).sum() / max(1, chosen.sum() + right.sum()) == pytest.approx(max(f1.values()))


def test_a_fit_learns_what_tells_right_from_wrong_and_is_honest_where_nothing_does():
    fit = fit_calibration(records(200, 3))
    assert fit.expected.f1 > fit.default.f1 + 0.1 and fit.gain_interval[0] > 0 and fit.is_better
    assert fit.f1_interval[0] < fit.expected.f1 < fit.f1_interval[1] and fit.expected.held_back > 0.9
    assert fit.weights["logprob"] > 0 and (fit.questions, fit.unanswerable) == (160, 40)
    shares = [point.decisions.answered for point in fit.curve]
    assert shares == sorted(shares) and fit.curve[0].decisions.precision >= fit.curve[-1].decisions.precision
    noise = fit_calibration(records(200, 3, informative=False))
    assert noise.expected.f1 < fit.expected.f1 and noise.gain_interval[0] < 0.25


@pytest.mark.parametrize(
    ("some", "sentence"),
    [
        ([replace(one, answerable=True) for one in records(20, 0)], "answerable and unanswerable"),
        ([replace(one, cem=0.0) for one in records(20, 0)], "at least two right and two wrong"),
        ([replace(one, confidence=None) for one in records(20, 0)], "hold no measures"),
    ],
)
def test_what_cannot_be_fitted_is_said_so(some, sentence):
    with pytest.raises(UserError, match=sentence):
        fit_calibration(some)


def test_it_decides_in_place_of_the_constant():
    question, turns = (
        "Which valve replaces part K-40?",
        ["<begin_of_query>valve K-40<end_of_query>", "</think><answer>V-118</answer>"],
    )
    rollout = run_rollout(question, ScriptedEngine(turns), Shelf(), REASONING)
    plain = make_answer(rollout)
    assert plain.text == "V-118" and plain.sound and plain.probability is None
    assert plain.confidence == Confidence(0.75, 1.0, -0.5)
    strict = Calibration("scripted@1", {"logprob": 1.0}, 0.0, 0.9)
    held = make_answer(rollout, calibration=strict)
    assert held.abstained and not held.unsupported and held.sound and held.probability == pytest.approx(0.3775, abs=1e-4)
    assert "probability of 0.38" in held.reason and held.nearest
    assert make_answer(rollout, calibration=replace(strict, threshold=0.3)).text == "V-118"
    far = run_rollout("Who is the mayor of the moon's capital?", ScriptedEngine(turns), Shelf(), REASONING)
    assert make_answer(far).abstained and not make_answer(far, calibration=replace(strict, threshold=0.3)).abstained


def test_it_is_kept_for_its_policy(tmp_path):
    told = []
    assert load_calibration(tmp_path, "scripted@1", told.append) is None and told == []
    kept = as_calibration(fit_calibration(records(100, 3)), "scripted@1")
    assert kept.save(tmp_path) == tmp_path / "calibration.json"
    again = load_calibration(tmp_path, "scripted@1", told.append)
    assert (again.weights, again.bias, again.threshold) == (kept.weights, kept.bias, kept.threshold)
    assert "an answer is given from a probability of" in told[0]
    assert load_calibration(tmp_path, "other@2", told.append) is None and "left aside" in told[1]
    for broken in ("{", "{}", '{"policy": "x", "weights": {"speed": 1}, "bias": 0, "threshold": 0.5}'):
        (tmp_path / "calibration.json").write_text(broken)
        with pytest.raises(UserError, match="is no calibration"):
            load_calibration(tmp_path, "scripted@1", told.append)


def test_the_default_policy_comes_with_one(tmp_path, monkeypatch):
    told = []
    policy = f"{TRAINED.title}@{TRAINED.sha256[:12]}"
    shipped = load_calibration(tmp_path, policy, told.append)
    assert EMBEDDED[DEFAULT] is TRAINED and 0 < shipped.threshold < 1 and "comes with the policy" in told[0]
    assert shipped_calibration(policy) == shipped and shipped_calibration("SmolLM2-135M-Searcher@another") is None
    own = Calibration(policy, {"logprob": 1.0}, 0.0, 0.125)
    own.save(tmp_path)
    assert load_calibration(tmp_path, policy, told.append) == own, "what was fitted here goes before what comes along"
    Calibration("other@1", {}, 0.0, 0.5).save(tmp_path)
    assert load_calibration(tmp_path, policy, told.append) == shipped and "left aside" in told[2]


def test_a_fit_is_kept_where_it_is_not_worse_than_what_comes_with_the_policy():
    some = records(200, 3)
    fit = fit_calibration(some)
    own = as_calibration(fit, "p")
    beside = fit_calibration(some, own)
    assert (fit.shipped, beside.default, beside.weights) == (None, fit.default, fit.weights)
    assert beside.shipped.f1 > fit.default.f1 and beside.is_better == (beside.expected.f1 >= beside.shipped.f1)
    sound = [record for record in some if record.sound and own.probability(record.confidence) >= own.threshold]
    assert beside.shipped.precision == pytest.approx(np.mean([record.cem for record in sound]), abs=1e-4)
    never = fit_calibration(some, replace(own, threshold=1.1)).shipped
    assert (never.f1, never.answered, never.held_back) == (0.0, 0.0, 1.0)


@pytest.mark.slow
def test_calibrate_takes_a_run_and_ask_uses_it(tmp_path, monkeypatch):
    monkeypatch.setitem(command_line.ENVIRONMENT, "XDG_DATA_HOME", str(tmp_path / "data"))
    passages = tmp_path / "p.jsonl"
    passages.write_text(json.dumps({"title": "Tulips", "text": "Tulips are planted in October."}) + "\n")
    policy = answer("ask", "When are tulips planted?", "--search", passages)["models"]["policy"]
    run = AnswerRun(tmp_path / "run", {"policy": policy})
    for record in records(60, 3):
        run.add(record)
    report = answer("calibrate", "--search", passages, "--run", tmp_path / "run")
    assert report["questions"] == 48 and report["unanswerable"] == 12 and report["calibration"].endswith("calibration.json")
    assert report["expected"]["f1"] >= report["default"]["f1"] and len(report["curve"]) == 8
    table = call("calibrate", "--search", passages, "--run", tmp_path / "run").stdout
    assert "calibrated less what is built in" in table and "kept in" in table
    told = call("ask", "When are tulips planted?", "--search", passages, "--json")
    assert "calibrated: an answer is given from" in told.stderr and json.loads(told.stdout)["probability"] is not None
    assert "--run" in complaint("calibrate", "--search", passages)
    assert "holds no answers" in complaint("calibrate", "--search", passages, "--run", tmp_path / "none")


@pytest.mark.slow
def test_calibrate_asks_both_files_itself(tmp_path, monkeypatch):
    monkeypatch.setitem(command_line.ENVIRONMENT, "XDG_DATA_HOME", str(tmp_path / "data"))
    passages = tmp_path / "p.jsonl"
    passages.write_text(json.dumps({"title": "Tulips", "text": "Tulips are planted in October."}) + "\n")
    asked = [{"id": "1", "doc": "Tulips", "question": "When are tulips planted?", "answers": ["March"], "evidence_pages": [1]}]
    (tmp_path / "qa.jsonl").write_text(json.dumps(asked[0]) + "\n")
    (tmp_path / "none.jsonl").write_text(json.dumps({**asked[0], "id": "2", "question": "Why?", "evidence_pages": []}) + "\n")
    files = ("--qa", tmp_path / "qa.jsonl", "--unanswerable", tmp_path / "none.jsonl")
    assert "two right and two wrong" in complaint("calibrate", "--search", passages, *files)
    (lines,) = (tmp_path / "data").rglob("calibration-runs/*/answers.jsonl")
    assert len(lines.read_text().splitlines()) == 2
