"""The proof that training a visual retriever teaches it to see, through the command line as a user has it."""

import json
import signal
import subprocess
import time

import pytest
from command_line import COLSEARCHER, ENVIRONMENT, call, complaint

from colsearcher.training.run_folder import RunFolder

pytestmark = pytest.mark.slow


def words(command):
    """The printed command without its program and its line breaks."""
    return command.replace("\\\n", " ").split()[1:]


def test_a_model_trained_from_nothing_finds_pages_it_has_never_seen_and_points_at_what_is_asked_for(tmp_path):
    """Recall@1 among 100 held-out pages, combinations that no training page shows: below 0.2 before, 0.9 or more after. And
    the peak of a thing's heat map lies in its box for 0.9 or more of them, stored whole and stored small."""
    command = call("train", "practice", "--out", tmp_path / "practice").stdout
    started = time.monotonic()
    # Threads of so small a model mostly wait for each other; the second core draws the next batch.
    one_thread = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [COLSEARCHER, *words(command), "--json"], capture_output=True, text=True, env=one_thread, timeout=900, check=True
    )
    result = json.loads(done.stdout)
    print(f"{time.monotonic() - started:.0f} s: {result}")
    assert result["base"]["recall@1"] < 0.2 and result["trained"]["recall@1"] >= 0.9
    run = tmp_path / "practice/run"
    assert (run / "report.md").read_text().count("| base ") == 1

    pages, questions = tmp_path / "practice/held-out", tmp_path / "practice/held-out.jsonl"
    small = ["--pool", "cluster:3", "--codec", "2bit", "--drop-originals"]
    for name, how in (("index", []), ("small", small)):
        call("index", "add", pages, "--index", tmp_path / name, "--embedder", run / "model", "--ocr", "never", *how)
        scores = json.loads(call("eval", "boxes", "--qa", questions, "--index", tmp_path / name, "--json").stdout)
        print({key: scores[key] for key in ("pointing", "interval", "chance")})
        assert len(scores["boxes"]) == 500 and scores["pointing"] >= 0.9 and scores["chance"] < 0.15
    found = json.loads(call("eval", "retrieval", "--qa", questions, "--index", tmp_path / "index", "--json").stdout)
    assert found["rankings"]["late interaction"]["recall@1"] >= 0.85


def test_killed_and_resumed_and_with_hard_negatives_from_an_index(tmp_path):
    call("train", "practice", "--out", tmp_path / "p", "--train", 60, "--held-out", 10)
    call(
        "index",
        "add",
        tmp_path / "p/train",
        "--index",
        tmp_path / "index",
        "--embedder",
        tmp_path / "p/checkpoint",
        "--ocr",
        "never",
    )
    base = ["--base", tmp_path / "p/checkpoint", "--qa", tmp_path / "p/train.jsonl", "--pages", tmp_path / "p/train"]
    held_out = ["--eval-qa", tmp_path / "p/held-out.jsonl", "--eval-pages", tmp_path / "p/held-out"]
    recipe = ["--lora-rank", 4, "--steps", 40, "--batch", 4, "--lr", 0.001, "--save-every", 5, "--dtype", "fp32"]
    negatives = ["--hard-negatives", 2, "--skip-top", 1, "--index", tmp_path / "index"]
    command = ["train", "retriever", *base, *held_out, *recipe, *negatives]
    call(*command, "--out", tmp_path / "whole")
    started = subprocess.Popen([COLSEARCHER, *map(str, command), "--out", str(tmp_path / "cut")], env=ENVIRONMENT)
    deadline = time.monotonic() + 200
    while sum("step" in row for row in RunFolder(tmp_path / "cut").rows()) < 8:
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "cut/model").exists()
    assert "add --resume" in complaint(*command, "--out", tmp_path / "cut")
    done = call(*command, "--out", tmp_path / "cut", "--resume")
    assert "resumed after step" in done.stderr and "LoRA r=4" in done.stdout
    assert RunFolder(tmp_path / "cut").rows() == RunFolder(tmp_path / "whole").rows()

    call("train", "merge", tmp_path / "cut", "-o", tmp_path / "merged")
    for model in ("cut/model", "merged"):
        call(
            "index",
            "add",
            tmp_path / "p/held-out",
            "--index",
            tmp_path / f"i-{model[:3]}",
            "--embedder",
            tmp_path / model,
            "--ocr",
            "never",
        )
    scores = [
        [
            hit["score"]
            for hit in json.loads(call("search", "a red star", "--index", tmp_path / f"i-{name}", "--json").stdout)["hits"]
        ]
        for name in ("cut", "mer")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)
