import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
import torch
from PIL import Image

from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.embedder import load_embedder
from colsearcher.retrieval.visual.families import FAMILIES
from colsearcher.training.retriever import evaluation
from colsearcher.training.retriever.fine_tune import Data, FineTuning, fine_tune, merge
from colsearcher.training.retriever.losses import make_loss
from colsearcher.training.retriever.page_files import question_pairs
from colsearcher.training.retriever.pairs import Pair
from colsearcher.training.retriever.practice import write_practice
from colsearcher.training.retriever.trainer import Recipe, Trainer
from colsearcher.training.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def practice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("practice") / "practice"
    write_practice(folder, train=24, held_out=8, seed=0)
    return folder


@pytest.fixture(scope="module")
def asked(practice):
    return FineTuning(
        base=str(practice / "checkpoint"),
        out=Path(),
        train=Data(practice / "train.jsonl", (practice / "train",)),
        held_out=Data(practice / "held-out.jsonl", (practice / "held-out",)),
        lora_rank=8,
        box_weight=0.5,
        temperature=0.1,
        batch=8,
        steps=12,
        lr=5e-3,
        save_every=4,
        dtype="fp32",
        device="cpu",
    )


@pytest.fixture(scope="module")
def lora(asked, tmp_path_factory):
    asked = replace(asked, out=tmp_path_factory.mktemp("runs") / "lora")
    return asked, fine_tune(asked, tell=lambda text: None)


def visible_padding(made, folder):
    """Save a random model whose vectors of padding have a length, as those of trained models do."""
    model, processor = made
    for name, parameter in model.named_parameters():
        if name in ("custom_text_proj.bias", "linear.bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def steps(folder):
    return [row for row in RunFolder(folder).rows() if "step" in row]


def killed_at(asked, step):
    """The run, cut off when it tells of a step; `trainer` tells of the first, so state is saved by hand of `save_every`."""
    rows = []

    def log(self, row):
        rows.append(row)
        if row.get("step") == step:
            raise KeyboardInterrupt
        original(self, row)

    original = RunFolder.log
    RunFolder.log = log
    try:
        with pytest.raises(KeyboardInterrupt):
            fine_tune(asked, tell=lambda text: None)
    finally:
        RunFolder.log = original


def test_lora_steps_bring_the_loss_down_and_leave_evidence(lora):
    asked, result = lora
    rows = steps(asked.out)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert np.mean([row["loss"] for row in rows[-3:]]) < rows[0]["loss"] - 0.1
    assert np.mean([row["box_loss"] for row in rows[-3:]]) < rows[0]["box_loss"] - 0.1
    assert result["loss"] == rows[-1]["loss"] and {"base", "trained"} <= result.keys()
    config = json.loads((asked.out / "config.json").read_text())
    assert config["lora_rank"] == 8 and config["steps"] == 12 and config["base"] == asked.base
    assert {"torch", "peft", "python", "revision"} <= json.loads((asked.out / "env.json").read_text()).keys()
    report = (asked.out / "report.md").read_text()
    assert "| base " in report and "| LoRA r=8 " in report and "recall@1" in report
    adapter = json.loads((asked.out / "model/adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(Path(asked.base).resolve()) and adapter["lora_dropout"] == 0.1


@pytest.mark.parametrize("kind", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(kind, lora, asked, tmp_path):
    if kind == "lora":
        whole = lora[0].out
    else:
        asked, whole = replace(asked, lora_rank=None, steps=6, save_every=2), tmp_path / "whole"
        fine_tune(replace(asked, out=whole), tell=lambda text: None)
    cut = replace(asked, out=tmp_path / "cut")
    killed_at(cut, 2 * asked.save_every)
    assert len(steps(cut.out)) == 2 * asked.save_every - 1
    with pytest.raises(UserError, match="--resume"):
        fine_tune(cut, tell=lambda text: None)
    with pytest.raises(UserError, match=r"started differently \(lr: 0.005 then, 0.1 now\)"):
        fine_tune(replace(cut, lr=0.1), resume=True, tell=lambda text: None)
    told = []
    again = fine_tune(cut, resume=True, tell=told.append)
    assert f"resumed after step {asked.save_every} of {asked.steps}" in told
    assert steps(cut.out) == steps(whole)
    assert RunFolder(cut.out).evaluation("trained") == RunFolder(whole).evaluation("trained") == again["trained"]
    weights = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    assert (cut.out / "model" / weights).read_bytes() == (whole / "model" / weights).read_bytes()
    assert fine_tune(cut, resume=True, tell=lambda text: None) == again


def test_boxes_add_their_weight_to_the_loss_and_pairs_without_boxes_add_nothing(asked, practice, tmp_path):
    lines = [json.loads(line) for line in (practice / "train.jsonl").read_text().splitlines()]
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps(line | ({"boxes": []} if i >= 9 else {})) + "\n" for i, line in enumerate(lines)))
    asked = replace(asked, steps=2, accumulate=1, held_out=Data(), lora_rank=None, lr=1e-5)
    rows = []
    for weight, name in ((0, "train"), (0.5, "train"), (2, "train"), (0.5, "few")):
        qa = few if name == "few" else practice / "train.jsonl"
        run = replace(asked, box_weight=weight, out=tmp_path / f"{name}-{weight}", train=Data(qa, asked.train.pages))
        fine_tune(run, tell=lambda text: None)
        rows.append(steps(run.out)[0])
    without, half, double, some = rows
    assert "box_loss" not in without and half["box_loss"] == double["box_loss"] > 1
    assert half["loss"] - without["loss"] == pytest.approx(0.5 * half["box_loss"], rel=1e-4)
    assert double["loss"] - without["loss"] == pytest.approx(2 * half["box_loss"], rel=1e-4)
    assert some["box_loss"] != half["box_loss"]
    no_boxes = tmp_path / "none.jsonl"
    no_boxes.write_text("".join(json.dumps(line | {"boxes": []}) + "\n" for line in lines))
    with pytest.raises(UserError, match="No question has a box to learn from"):
        fine_tune(replace(asked, out=tmp_path / "no", train=Data(no_boxes, asked.train.pages)), tell=lambda text: None)
    assert not (tmp_path / "no").exists()


def test_the_merged_checkpoint_scores_as_the_adapter_does(lora, practice, tmp_path):
    asked, _ = lora
    folder = merge(asked.out, tmp_path / "merged")
    assert not (folder / "adapter_config.json").exists()
    pages = question_pairs(practice / "held-out.jsonl", [practice / "held-out"], max_pixels=25_000)
    drawn = [pages.draw(key) for key in pages.pages]
    scores = []
    for name in (asked.out / "model", folder, asked.base):
        embedder = load_embedder(str(name), device="cpu", dtype="fp32")
        scores.append(evaluation.scores_Q_P(embedder.embed_queries(list(pages.questions)), embedder.embed_pictures(drawn)))
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-4)
    assert np.abs(scores[0] - scores[2]).max() > 0.05
    with pytest.raises(UserError, match="not empty"):
        merge(asked.out, tmp_path / "merged")


def test_scores_are_the_sum_of_each_vectors_best_match(practice):
    pages = question_pairs(practice / "held-out.jsonl", [practice / "held-out"], max_pixels=25_000)
    embedder = load_embedder(str(practice / "checkpoint"), device="cpu", dtype="fp32")
    queries = embedder.embed_queries(list(pages.questions)[:3])
    seen = embedder.embed_pictures([pages.draw(key) for key in pages.pages[:4]])
    expected = [[(query.vectors @ page.vectors.T).max(1).sum() for page in seen] for query in queries]
    np.testing.assert_allclose(evaluation.scores_Q_P(queries, seen), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["ColPali", "ColQwen2", "ColQwen2.5", "ColIdefics3", "BiQwen2", "BiIdefics3", "BiPaliProj"])
def test_other_families_learn_with_hard_negatives_too(name, asked, practice, tmp_path):
    family = next(family for family in FAMILIES if family.name == name)
    base = visible_padding(tiny_checkpoints.build(family), tmp_path / "base")
    run = RunFolder(tmp_path / "run")
    asked = replace(asked, base=str(base), out=run.path, held_out=Data(), steps=2, batch=3, lora_rank=2, accumulate=2)
    asked = replace(asked, box_weight=0 if family.single else 0.5, gradient_checkpointing=name == "ColQwen2")
    asked = replace(asked, train=replace(asked.train, limit=7))
    with pytest.raises(UserError, match="--index"):
        fine_tune(replace(asked, hard_negatives=2), tell=lambda text: None)
    fine_tune(asked, tell=lambda text: None)
    with_negatives = replace(asked, out=tmp_path / "negatives", hard_negatives=2, index=tmp_path / "no index")
    pages = [f"train-01.pdf#p={i}" for i in range(10, 24)]
    with_negatives.out.mkdir()
    original = RunFolder.start

    def start(self, *words, **more):
        self.path.rmdir()
        original(self, *words, **more)
        self.negatives.write_text(json.dumps([pages[2 * i : 2 * i + 2] for i in range(7)]))

    RunFolder.start = start
    try:
        fine_tune(with_negatives, tell=lambda text: None)
    finally:
        RunFolder.start = original
    losses = [[row["loss"] for row in steps(folder)] for folder in (run.path, with_negatives.out)]
    assert np.isfinite(losses).all() and losses[0] != losses[1]
    assert all(("box_loss" in row) is not family.single for row in steps(run.path))
    load_embedder(str(run.model), device="cpu", dtype="fp32").embed_queries(["what?"])


def test_a_page_as_thin_as_a_line_is_learnt_from(tmp_path):
    model, processor = made = tiny_checkpoints.build(next(family for family in FAMILIES if family.name == "ColQwen2"))
    visible_padding(made, tmp_path / "base")
    pairs = [Pair(f"what is {page}?", page, frozenset({page})) for page in ("line.png", "page.png")]
    sizes = {"line.png": (2, 900), "page.png": (200, 300)}
    loss = make_loss(None, single=False, negatives=False, temperature=0.1)
    run = RunFolder(tmp_path / "run")
    run.start({}, {}, resume=False)
    Trainer(
        model,
        processor,
        loss,
        pairs,
        lambda page: Image.new("RGB", sizes[page]),
        Recipe(1, 2, 1, 1e-3, 0.0, 0, 5, False),
        run,
    ).train()
    assert np.isfinite([row["loss"] for row in steps(run.path)]).all()


def test_what_cannot_be_trained_is_refused(lora, asked, practice, tmp_path):
    adapter = replace(asked, base=str(lora[0].out / "model"), out=tmp_path / "run")
    with pytest.raises(UserError, match="is an adapter; make it a whole model first"):
        fine_tune(adapter, tell=lambda text: None)
    for train in (
        Data(),
        Data(practice / "train.jsonl", (practice / "train",), "some/dataset"),
        Data(practice / "train.jsonl"),
    ):
        with pytest.raises(UserError, match="Name the"):
            fine_tune(replace(asked, out=tmp_path / "run", train=train), tell=lambda text: None)
    with pytest.raises(UserError, match="smaller --batch"):
        fine_tune(replace(asked, out=tmp_path / "run", steps=None, batch=100), tell=lambda text: None)
    assert not (tmp_path / "run").exists()
