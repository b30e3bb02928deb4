"""`train policy`, `train report` and what they say of wrong input, as a user types it."""

import json
import subprocess
from pathlib import Path

import pytest
from command_line import COLSEARCHER, ENVIRONMENT, call, complaint
from tiny_policy import tiny_policy

from colsearcher.agent.cli import main
from colsearcher.agent.policy import load_policy
from colsearcher.training.policy.difficulty import Difficulty, read_difficulty, write_difficulty
from colsearcher.training.policy.recipe import STAGES, read_recipe, recipe_path

TEXTS = {
    "Heron Shoal": "The light of Heron Shoal was built by Ada Finch in 1871.",
    "Ada Finch": "Ada Finch was born in Wick.",
    "Wick": "Wick Harbour has two piers.",
    "Grey Seal": "The Grey Seal sailed in 1902.",
}
ASKED = [
    ("Who built the light of Heron Shoal?", "Ada Finch", "Heron Shoal"),
    ("When did the Grey Seal sail?", "1902", "Grey Seal"),
    ("Where was Ada Finch born?", "Wick", "Ada Finch"),
    ("How many piers has Wick Harbour?", "two", "Wick"),
]
SMALL = ["steps=2", "save_every=1", "prompts=2", "group=2", "at_once=2", "total_tokens=400", "trace_every=1", "lora_rank=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    policy = tiny_policy(context=4096)
    policy.model.save_pretrained(folder / "policy")
    policy.tokenizer.save_pretrained(folder / "policy")
    context = [{"title": title, "sentences": [text]} for title, text in TEXTS.items()]
    lines = [
        json.dumps(
            {"id": str(n), "question": text, "answers": [answer], "context": context, "supporting_facts": [{"title": title}]}
        )
        for n, (text, answer, title) in enumerate(ASKED)
    ]
    (folder / "qa.jsonl").write_text("\n".join([*lines[:3], ""]))
    (folder / "held-out.jsonl").write_text("\n".join([*lines[2:], ""]))
    (folder / "bare.jsonl").write_text(json.dumps({"id": "1", "question": "Who?", "answer": "Ada"}) + "\n")
    return folder


def command(folder, *more):
    words = ["train", "policy", "--qa", folder / "qa.jsonl", "--policy", folder / "policy", "--recipe", "practice"]
    return [*words, *(word for change in SMALL for word in ("--set", change)), *more]


@pytest.mark.slow
def test_how_hard_questions_are_is_asked_no_more_often_than_it_must_be(folder, tmp_path):
    out = tmp_path / "difficulty.jsonl"
    words = ["train", "data", "difficulty", "--qa", folder / "qa.jsonl", "--policy", folder / "policy", "--out", out]
    assert "round 2 of at most 2: 3 questions left" in call(*words, "--most", "2").stderr
    known = {name: Difficulty(None, 2) for name in "012"}  # a random policy answers nothing right
    assert read_difficulty(out) == known
    done = call(*words, "--most", "2")
    assert "3 known already" in done.stderr and "round" not in done.stderr and "0 of 3 answered right" in done.stdout
    write_difficulty(out, known | {"1": Difficulty(1, 1)})
    more = call(*words, "--most", "3").stderr
    assert "round 3 of at most 3: 2 questions left" in more and "round 2" not in more


@pytest.mark.slow
def test_both_stages_and_a_report(folder):
    words = command(folder, "--eval-qa", folder / "held-out.jsonl", "--out", folder / "run")
    done = call(*words, "--json")
    result = json.loads(done.stdout)
    assert list(result["stages"]) == ["retrieval", "answer"] and result["model"].endswith("run/answer/model")
    assert all(stage["steps"] == 2 and stage["after"]["questions"] == 2 for stage in result["stages"].values())
    assert result["stages"]["retrieval"]["after"] == result["stages"]["answer"]["before"]
    # A held-out question is not learned, though it stands in both files.
    assert "2 questions to learn from, 2 held out" in done.stderr and "|Δlogp|" in done.stderr
    assert "adapter on" in load_policy(result["model"], device="cpu").describe()
    for name in STAGES:
        recorded = json.loads((folder / f"run/{name}/config.json").read_text())["recipe"]
        assert tuple(recorded["rewards"]) == read_recipe(recipe_path("practice", name)).rewards
    assert "add --resume" in complaint(*words)
    assert json.loads(call(*words, "--resume", "--json").stdout) == result, "nothing is done again"
    assert "started differently" in complaint(*words, "--set", "lr=1e-9", "--resume")
    asked = (folder / "held-out.jsonl").read_text()
    (folder / "held-out.jsonl").write_text(asked.replace("?", " now?", 1))
    assert "questions: [" in complaint(*words, "--resume")
    (folder / "held-out.jsonl").write_text(asked)
    assert "after answer" in call("train", "report", folder / "run").stdout
    assert (folder / "run/report.html").is_file() and (folder / "run/report.png").is_file()
    traces = sorted((folder / "run/answer/traces").iterdir())
    assert "answer" in call("replay", traces[0]).stdout


@pytest.mark.slow
def test_two_processes_share_the_work_and_write_one_run(folder):
    launch = ["--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    words = command(folder, "--set", "at_once=1", "--eval-qa", folder / "held-out.jsonl", "--out", folder / "shared", "--json")
    accelerate = str(Path(COLSEARCHER).parent / "accelerate")
    done = subprocess.run(
        [accelerate, "launch", *launch, COLSEARCHER, *map(str, words)],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # one process tells it
    assert all(stage["steps"] == 2 and stage["after"]["questions"] == 2 for stage in result["stages"].values())
    for name in ("retrieval", "answer"):
        rows = [json.loads(line) for line in (folder / f"shared/{name}/metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [1, 2]
    assert "adapter on" in load_policy(result["model"], device="cpu").describe()


def test_what_is_wrong_is_said(folder, capsys):
    def complaint(*words):
        assert main([str(word) for word in words]) == 2
        return capsys.readouterr().err

    assert "bring no paragraphs" in complaint("train", "policy", "--qa", folder / "bare.jsonl", "--out", folder / "none")
    assert "no recipe «nice»" in complaint(*command(folder, "--recipe", "nice", "--out", folder / "none"))
    assert "did you mean steps" in complaint(*command(folder, "--set", "stepps=3", "--out", folder / "none"))
    assert "is left to learn from" in complaint(*command(folder, "--exclude", folder / "qa.jsonl", "--out", folder / "none"))
    assert "name a model with --judge" in complaint(*command(folder, "--set", "rewards=vrag", "--out", folder / "none"))
    assert "name them with --eval-qa" in complaint(*command(folder, "--eval-limit", 2, "--out", folder / "none"))
    (folder / "difficulty.jsonl").write_text('{"id": "0", "rollouts": 3, "tried": 3}\n')
    assert "--set hardest" in complaint(*command(folder, "--difficulty", folder / "difficulty.jsonl", "--out", folder / "none"))
    assert "name its file with --difficulty" in complaint(*command(folder, "--set", "hardest=5", "--out", folder / "none"))
    (folder / "empty").mkdir()
    assert "neither a model folder" in complaint(*command(folder, "--policy", folder / "empty", "--out", folder / "none"))
    assert not (folder / "none").exists()
    assert "holds no run" in complaint("train", "report", folder)
