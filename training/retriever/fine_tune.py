"""A run from its beginning to its report: base, held-out questions before, training, the saved model, and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.visual.embedder import VisualEmbedder
from colsearcher.retrieval.visual.families import base_of
from colsearcher.retrieval.visual.loading import Checkpoint, CheckpointName, load_checkpoint
from colsearcher.training.retriever.adapters import add_lora, plain
from colsearcher.training.retriever.box_loss import BoxLoss
from colsearcher.training.retriever.dataset_pairs import dataset_pairs
from colsearcher.training.retriever.evaluation import evaluate, table
from colsearcher.training.retriever.losses import make_loss
from colsearcher.training.retriever.negatives import mine
from colsearcher.training.retriever.page_files import question_pairs
from colsearcher.training.retriever.pairs import Pair, PairSet, steps_of, with_negatives
from colsearcher.training.retriever.trainer import Recipe, Trainer
from colsearcher.training.run_folder import RunFolder

LORA_LR, FULL_LR = 5e-5, 1e-5


@dataclass(frozen=True)
class Data:
    """Where pairs come from: questions about files, or a dataset; all of it None or empty where there is none."""

    qa: Path | None = None
    pages: tuple[Path, ...] = ()
    dataset: str | None = None
    limit: int | None = None

    def load(self, *, max_pixels: int) -> PairSet:
        """Read the questions; pages are drawn later.

        Raises:
            UserError: neither or both kinds are named, or what is named cannot be used.
        """
        if (self.qa is None) == (self.dataset is None):
            raise UserError("Name the questions to learn from: either --qa QA.jsonl with --pages FOLDER, or --dataset.")
        if self.dataset is not None:
            return dataset_pairs(self.dataset, max_pixels=max_pixels, limit=self.limit)
        assert self.qa is not None
        if not self.pages:
            raise UserError(f"Name the files that the questions of {self.qa} are about with --pages FOLDER.")
        return question_pairs(self.qa, self.pages, max_pixels=max_pixels, limit=self.limit)

    @property
    def named(self) -> bool:
        return self.qa is not None or self.dataset is not None


@dataclass(frozen=True)
class FineTuning:
    """One run.

    Attributes:
        base: the checkpoint to start from: a folder or a hub id.
        out: the run folder.
        train: what to learn from.
        held_out: what to measure on before and after.
        lora_rank: None for training all weights.
        loss: a `losses.LossName`, None for cross-entropy over the batch.
        box_weight: what the loss of the questions' boxes (`box_loss`) counts beside it, 0 for not at all.
        epochs: passes over the pairs, unless `steps` says how many steps.
        lr: None for 5e-5 with LoRA and 1e-5 without.
        hard_negatives: for each pair, from `index`; `skip_top` of the best-ranked are left out.
        dtype: "fp32", "bf16" (weights that learn stay in fp32), or "auto": bf16 on a GPU.
    """

    base: str
    out: Path
    train: Data
    held_out: Data = Data()
    lora_rank: int | None = 32
    loss: str | None = None
    box_weight: float = 0.0
    temperature: float = 0.02
    epochs: int = 1
    steps: int | None = None
    batch: int = 32
    accumulate: int = 1
    lr: float | None = None
    warmup: float = 0.05
    seed: int = 0
    hard_negatives: int = 0
    skip_top: int = 0
    index: Path | None = None
    gradient_checkpointing: bool = False
    save_every: int = 100
    dtype: str = "auto"
    device: str = "auto"


def fine_tune(asked: FineTuning, *, resume: bool = False, tell: Callable[[str], None]) -> dict[str, Any]:
    """Do a run, or what is left of it.

    Returns `run`, `model`, `steps`, `loss` (of the last step) and, with held-out questions, `base` and `trained` metrics.

    Raises:
        UserError: the input is wrong; see the fields.
    """
    if base_of(Path(asked.base)):
        fix = f"make it a whole model first with `colsearcher train merge {asked.base} -o FOLDER`"
        raise UserError(f"{asked.base} is an adapter; {fix}.")
    if asked.hard_negatives and asked.index is None:
        raise UserError("Hard negatives are found with an index; name it with --index DIR.")
    device, dtype = _where(asked)
    run = RunFolder(asked.out)
    checkpoint = load_checkpoint(asked.base, device=device, dtype="fp32" if asked.lora_rank is None else dtype)
    embedder = VisualEmbedder(checkpoint)
    pairs = asked.train.load(max_pixels=embedder.picture_pixels)
    loss = make_loss(asked.loss, single=embedder.single, negatives=asked.hard_negatives > 0, temperature=asked.temperature)
    box_loss = _box_loss(asked, embedder, pairs.pairs)
    held_out = asked.held_out.load(max_pixels=embedder.picture_pixels) if asked.held_out.named else None
    steps = asked.steps or steps_of(pairs.pairs, asked.batch, asked.accumulate, seed=asked.seed, epochs=asked.epochs)
    recipe = Recipe(
        steps=steps,
        batch=asked.batch,
        accumulate=asked.accumulate,
        lr=asked.lr or (FULL_LR if asked.lora_rank is None else LORA_LR),
        warmup=asked.warmup,
        seed=asked.seed,
        save_every=asked.save_every,
        autocast=dtype == "bf16",
    )
    run.start(_config(asked, recipe), {"device": checkpoint.how, "revision": checkpoint.revision}, resume=resume)
    tell(f"{checkpoint.how}; {len(pairs.pairs):,} pairs, {len(pairs.pages):,} pages, {steps:,} steps")
    _warn_of_overlap(pairs, held_out, tell)
    before = _evaluation(run, "base", embedder, held_out, tell)
    if not run.model.is_dir():
        _train(asked, checkpoint, _mined(asked, run, pairs, tell), pairs, loss, box_loss, recipe, run, tell)
    del checkpoint, embedder, box_loss
    after = None
    if held_out:
        trained = VisualEmbedder(load_checkpoint(str(run.model), device=device, dtype=dtype))
        after = _evaluation(run, "trained", trained, held_out, tell)
    losses = [row["loss"] for row in run.rows() if "loss" in row]
    result: dict[str, Any] = {"run": str(run.path), "model": str(run.model), "steps": steps, "loss": losses[-1]}
    if before and after:
        result |= {"base": before, "trained": after}
    run.report.write_text("\n".join(_report(asked, result)) + "\n", encoding="utf-8")
    return result


def merge(trained: Path, folder: Path, *, device: str = "cpu") -> Path:
    """Write the model of a run, or any adapter, as a plain checkpoint with its processor.

    Raises:
        UserError: the folder is not empty.
        ModelProblem: there is no trained model.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder.")
    source = trained / "model" if (trained / "model").is_dir() else trained
    checkpoint = load_checkpoint(str(source), device=device, dtype="fp32")
    model = plain(checkpoint.model)
    if base := base_of(source):
        model = model.to(_stored_dtype(base))
    _save(model, folder)
    checkpoint.processor.save_pretrained(folder)
    return folder


def comparison(asked: FineTuning, result: Mapping[str, Any]) -> list[str]:
    """The table of the base and the trained model, nothing without held-out questions."""
    if "base" not in result:
        return []
    kind = "all weights" if asked.lora_rank is None else f"LoRA r={asked.lora_rank}"
    return table({"base": result["base"], kind: result["trained"]})


def _train(
    asked: FineTuning,
    checkpoint: Checkpoint,
    learnt_from: Sequence[Pair],
    pairs: PairSet,
    loss: Any,
    box_loss: BoxLoss | None,
    recipe: Recipe,
    run: RunFolder,
    tell: Callable[[str], None],
) -> None:
    model = checkpoint.model
    if asked.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if asked.lora_rank is not None:
        name = CheckpointName.parse(asked.base)
        source = str(Path(name.source).resolve()) if name.is_folder else name.source
        model = add_lora(model, asked.lora_rank, base=source, seed=asked.seed)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    tell(f"{learning:,} of {sum(p.numel() for p in model.parameters()):,} weights learn")
    loss = loss.to(checkpoint.device)
    Trainer(model, checkpoint.processor, loss, learnt_from, pairs.draw, recipe, run, box_loss=box_loss).train(tell)
    if asked.gradient_checkpointing:
        model.gradient_checkpointing_disable()
    unfinished = run.path / "model.new"
    saved = model.to(_stored_dtype(asked.base)) if asked.lora_rank is None else model
    _save(saved, unfinished)
    checkpoint.processor.save_pretrained(unfinished)
    unfinished.replace(run.model)


def _save(model: Any, folder: Path) -> None:
    """Write a model or an adapter under the names that its weights have now."""
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder))
    else:
        # The names that the base was stored under may be those of an adapter or of an old version of its library.
        model.save_pretrained(folder, save_original_format=False)


def _box_loss(asked: FineTuning, embedder: VisualEmbedder, pairs: Sequence[Pair]) -> BoxLoss | None:
    if asked.box_weight == 0:
        return None
    loss = BoxLoss(embedder, weight=asked.box_weight, temperature=asked.temperature)
    if not any(pair.boxes for pair in pairs):
        raise UserError('No question has a box to learn from; add "boxes" to the questions of --qa, or leave --box-weight out.')
    return loss


def _mined(asked: FineTuning, run: RunFolder, pairs: PairSet, tell: Callable[[str], None]) -> Sequence[Pair]:
    """The pairs with their hard negatives, which stay those of the run's beginning whatever becomes of the index."""
    if not asked.hard_negatives:
        return pairs.pairs
    if not run.negatives.is_file():
        from colsearcher.retrieval.searcher import Searcher

        assert asked.index is not None
        with Searcher.open(asked.index) as searcher:
            found = mine(searcher, pairs.pairs, asked.hard_negatives, pages=pairs.pages, skip=asked.skip_top, tell=tell)
        run.negatives.write_text(json.dumps(found), encoding="utf-8")
    return with_negatives(pairs.pairs, json.loads(run.negatives.read_text(encoding="utf-8")))


def _evaluation(
    run: RunFolder, of: str, embedder: VisualEmbedder, held_out: PairSet | None, tell: Callable[[str], None]
) -> dict[str, float] | None:
    if held_out is None:
        return None
    found = run.evaluation(of)
    if found is None:
        found = evaluate(embedder, held_out, tell=tell)
        run.log({"evaluation": of, "metrics": found, "questions": len(held_out.questions), "pages": len(held_out.pages)})
    return found


def _warn_of_overlap(pairs: PairSet, held_out: PairSet | None, tell: Callable[[str], None]) -> None:
    if held_out is None:
        return
    seen = {(pair.question, pair.page) for pair in pairs.pairs}
    known = sum((pair.question, pair.page) in seen for pair in held_out.pairs)
    if known:
        tell(f"{known} of {len(held_out.pairs)} held-out pairs are among those learned from; their numbers say little")


def _where(asked: FineTuning) -> tuple[str, str]:
    import torch

    device = ("cuda" if torch.cuda.is_available() else "cpu") if asked.device == "auto" else asked.device
    return device, ("bf16" if device.startswith("cuda") else "fp32") if asked.dtype == "auto" else asked.dtype


def _stored_dtype(base: str) -> Any:
    """The number format that a checkpoint's weights are stored in."""
    import torch
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(CheckpointName.parse(base).source).dtype or torch.float32


def _config(asked: FineTuning, recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps({**asdict(asked), **asdict(recipe)}, default=str))


def _report(asked: FineTuning, result: Mapping[str, Any]) -> list[str]:
    data = asked.train.qa or asked.train.dataset
    told = f"{asked.base}, {result['steps']:,} steps on {data}, last loss {result['loss']:.4f}."
    lines = [f"# {asked.out.name}", "", told, ""]
    if "base" in result:
        asked_of = asked.held_out.qa or asked.held_out.dataset
        lines += [f"Held-out questions of {asked_of}, all pages ranked by late interaction alone:", ""]
        lines += [*comparison(asked, result), ""]
    return [*lines, f"The model: `colsearcher index add … --embedder {result['model']}`"]
