"""`colsearcher train retriever` and `colsearcher train practice`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colsearcher.agent.flags import option
from colsearcher.agent.range import COUNT, NATURAL, POSITIVE, SEED, Range
from colsearcher.agent.terminal import show, show_json, tell


@dataclass(frozen=True)
class TrainRetriever:
    """Fine-tune a visual checkpoint on questions with known pages, and measure it before and after on held-out ones. Learns
    from --qa with --pages, or from --dataset; pages are drawn when a batch needs them. The run folder keeps config.json,
    env.json, metrics.jsonl, report.md, the model (an adapter, or with --full all weights) and what --resume needs."""

    base: str = option("the checkpoint to start from: a folder or a hub id", metavar="CHECKPOINT")
    out: Path = option("the run folder, which is made", metavar="runs/NAME")
    qa: Path | None = option("JSONL of questions with evidence pages", default=None, metavar="QA.jsonl")
    pages: tuple[Path, ...] = option("the files they are about (may be given again)", default=(), metavar="PATH")
    dataset: str | None = option("a dataset with query and image columns: a path or a hub id", default=None, metavar="NAME")
    limit: int | None = option("only the first so many questions", default=None, metavar="N", within=COUNT)
    eval_qa: Path | None = option("JSONL of held-out questions", default=None, metavar="QA.jsonl")
    eval_pages: tuple[Path, ...] = option("the files that they are about, where not --pages", default=(), metavar="PATH")
    eval_dataset: str | None = option("a dataset of held-out questions", default=None, metavar="NAME")
    lora_rank: int = option("rank of the adapters", default=32, metavar="R", within=COUNT)
    full: bool = option("train all weights, no adapters", default=False)
    loss: Literal["colbert", "colbert-pairwise", "colbert-sigmoid", "bi", "bi-pairwise", "bi-sigmoid", "bi-paired"] | None = (
        option("colbert… for many vectors per page, bi… for one; without it colbert or bi", default=None)
    )
    box_weight: float = option(
        "what the loss of the questions' boxes counts beside it, 0 for nothing", default=0.0, metavar="W", within=NATURAL
    )
    temperature: float = option("what scores are divided by in the loss", default=0.02, metavar="T", within=POSITIVE)
    epochs: int = option("passes over the questions", default=1, metavar="N", within=COUNT)
    steps: int | None = option("optimizer steps, instead of --epochs", default=None, metavar="N", within=COUNT)
    batch: int = option("questions per batch, each about a different page", default=32, metavar="N", within=COUNT)
    accumulate: int = option("batches per step", default=1, metavar="N", within=COUNT)
    lr: float | None = option(
        "highest learning rate; without it 5e-5, with --full 1e-5", default=None, metavar="RATE", within=POSITIVE
    )
    warmup: float = option("share of the steps in which it rises", default=0.05, metavar="SHARE", within=Range(least=0, most=1))
    hard_negatives: int = option("wrong pages per question, found with --index", default=0, metavar="N", within=NATURAL)
    skip_top: int = option("best-ranked wrong pages to pass over", default=0, metavar="N", within=NATURAL)
    index: Path | None = option("the index that finds them", default=None, metavar="DIR")
    gradient_checkpointing: bool = option("compute activations twice instead of keeping them", default=False)
    save_every: int = option("steps between two states to resume from", default=100, metavar="N", within=COUNT)
    seed: int = option("of the order, of dropout and of new adapters", default=0, within=SEED)
    resume: bool = option("go on with the run in --out", default=False)
    dtype: Literal["auto", "fp32", "bf16"] = option("what to compute in; auto is bf16 on a GPU", default="auto")
    device: str = option("cpu, cuda, cuda:1, or auto", default="auto")
    json: bool = option("print one JSON document", default=False)

    def run(self) -> int:
        from colsearcher.training.retriever.fine_tune import Data, FineTuning, comparison, fine_tune

        asked = FineTuning(
            base=self.base,
            out=self.out,
            train=Data(self.qa, self.pages, self.dataset, self.limit),
            held_out=Data(self.eval_qa, (self.eval_pages or self.pages) if self.eval_qa else (), self.eval_dataset),
            lora_rank=None if self.full else self.lora_rank,
            loss=self.loss,
            box_weight=self.box_weight,
            temperature=self.temperature,
            epochs=self.epochs,
            steps=self.steps,
            batch=self.batch,
            accumulate=self.accumulate,
            lr=self.lr,
            warmup=self.warmup,
            seed=self.seed,
            hard_negatives=self.hard_negatives,
            skip_top=self.skip_top,
            index=self.index,
            gradient_checkpointing=self.gradient_checkpointing,
            save_every=self.save_every,
            dtype=self.dtype,
            device=self.device,
        )
        result = fine_tune(asked, resume=self.resume, tell=tell)
        if self.json:
            show_json(result)
            return 0
        for text in comparison(asked, result):
            show(text)
        show(f"{result['steps']:,} steps, last loss {result['loss']:.4f}")
        show(f"model: {result['model']}")
        return 0


@dataclass(frozen=True)
class TrainPractice:
    """Write what training can be tried with, without a GPU and a hub: a very small untrained ColPali, pages with shapes, a
    number and a word to train on, others to measure on, and the questions of both. Prints the command that trains it."""

    out: Path = option("the folder to write, which is made", metavar="DIR")
    train: int = option("pages to train on", default=2000, metavar="N", within=Range(least=2))
    held_out: int = option("other pages to measure on", default=100, metavar="N", within=COUNT)
    seed: int = option("of pages, questions and weights", default=0, within=SEED)

    def run(self) -> int:
        from colsearcher.training.retriever.practice import write_practice

        for text in write_practice(self.out, train=self.train, held_out=self.held_out, seed=self.seed):
            show(text)
        return 0
