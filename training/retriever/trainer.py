"""The training loop: AdamW on a contrastive loss, batch by batch, and going on after a kill as if there had been none."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from colsearcher.indexes.errors import ModelProblem
from colsearcher.retrieval.visual.embedder import no_line
from colsearcher.training.retriever.box_loss import BoxLoss, BoxTargets
from colsearcher.training.retriever.pairs import Draw, Pair, endless
from colsearcher.training.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

_Prepared: TypeAlias = tuple[dict[str, Any], BoxTargets | None]

# As in CLIP: contrastive gradients change fast.
_BETAS = (0.9, 0.98)
_LOUD = 25


@dataclass(frozen=True)
class Recipe:
    """How a model learns.

    Attributes:
        steps: optimizer steps.
        batch: pairs in a batch, whose pages are each other's wrong answers.
        accumulate: batches for each step.
        lr: the highest learning rate; it rises to it linearly and then falls linearly to nothing.
        warmup: the share of the steps in which it rises.
        max_norm: gradients are scaled down to this length.
        weight_decay: of AdamW.
        seed: of the order of pairs and of dropout.
        save_every: steps between two states to resume from.
        autocast: compute in bf16, keep what learns in fp32.
    """

    steps: int
    batch: int
    accumulate: int
    lr: float
    warmup: float
    seed: int
    save_every: int
    autocast: bool
    max_norm: float = 1.0
    weight_decay: float = 0.01

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 1.

        >>> recipe = Recipe(10, 8, 1, 1.0, 0.2, 0, 5, False)
        >>> [recipe.lr_at(step) for step in (1, 2, 6, 10)]
        [0.5, 1.0, 0.5555555555555556, 0.1111111111111111]
        """
        rising = max(1, math.ceil(self.warmup * self.steps))
        if step <= rising:
            return self.lr * step / rising
        return self.lr * (self.steps - step + 1) / (self.steps - rising + 1)


class Trainer:
    """Trains the parameters of a model that require gradients."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        loss: torch.nn.Module,
        pairs: Sequence[Pair],
        draw: Draw,
        recipe: Recipe,
        run: RunFolder,
        *,
        box_loss: BoxLoss | None = None,
    ) -> None:
        """
        Args:
            model: a colpali-engine model, bare or with PEFT adapters, on its device.
            loss: called with the vectors of questions, pages and, where the pairs bring them, hard negatives.
            box_loss: added, by its weight, for the boxes of the pairs.
        """
        import torch

        self._model, self._processor, self._loss = model, processor, loss
        self._pairs, self._draw, self._recipe, self._run = pairs, draw, recipe, run
        self._box_loss = box_loss
        self._device = next(model.parameters()).device
        self._learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self._learning.values(), lr=recipe.lr, betas=_BETAS, weight_decay=recipe.weight_decay
        )
        self._is_paligemma = model.config.model_type == "paligemma"

    def train(self, tell: Callable[[str], None] = lambda text: None) -> None:
        """Train to the end, from the state in the run folder where there is one.

        Raises:
            ModelProblem: the loss is not a number.
        """
        import torch

        recipe = self._recipe
        torch.manual_seed(recipe.seed)
        done = self._resume()
        if done:
            tell(f"resumed after step {done} of {recipe.steps}")
        self._model.train()
        started = time.monotonic()
        batches = itertools.islice(endless(self._pairs, recipe.batch, seed=recipe.seed), done * recipe.accumulate, None)
        prepared = self._ahead(itertools.islice(batches, (recipe.steps - done) * recipe.accumulate))
        for step in range(done + 1, recipe.steps + 1):
            for group in self._optimizer.param_groups:
                group["lr"] = recipe.lr_at(step)
            loss, norm, box_loss = self._step(prepared)
            if not math.isfinite(loss):
                raise ModelProblem(f"The loss of step {step} is {loss}; take a lower --lr, or --dtype fp32.")
            row = {"step": step, "loss": loss, "lr": recipe.lr_at(step), "grad_norm": norm}
            self._run.log(row if self._box_loss is None else row | {"box_loss": box_loss})
            if step % _LOUD == 0 or step in (1, recipe.steps):
                pace = (time.monotonic() - started) / (step - done)
                left = "" if step == recipe.steps else f", about {pace * (recipe.steps - step) / 60:.1f} min left"
                boxes = "" if box_loss is None else f"  box loss {box_loss:.4f}"
                tell(f"step {step}/{recipe.steps}  loss {loss:.4f}{boxes}  {pace:.2f} s/step{left}")
            if step % recipe.save_every == 0 or step == recipe.steps:
                self._save(step)
        self._model.eval()

    def _step(self, prepared: Iterator[_Prepared]) -> tuple[float, float, float | None]:
        """The loss, the length of the gradient, and the mean loss of boxes over the batches that have some."""
        import torch

        total, of_boxes = 0.0, []
        for inputs, targets in itertools.islice(prepared, self._recipe.accumulate):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.autocast):
                vectors = {name: self._vectors(given) for name, given in inputs.items()}
            if "neg_doc_embeddings" in vectors:
                flat = vectors["neg_doc_embeddings"]
                vectors["neg_doc_embeddings"] = flat.view(self._recipe.batch, -1, *flat.shape[1:])
            loss = self._loss(**vectors)
            if targets is not None:
                assert self._box_loss is not None
                box_loss = self._box_loss(vectors["query_embeddings"], vectors["doc_embeddings"], targets)
                loss = loss + self._box_loss.weight * box_loss
                of_boxes.append(float(box_loss.detach()))
            loss = loss / self._recipe.accumulate
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self._learning.values(), self._recipe.max_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return total, float(norm), sum(of_boxes) / len(of_boxes) if of_boxes else None

    def _vectors(self, inputs: Any) -> torch.Tensor:
        """(B, n, dim) float32 with zeros for padding, or (B, dim) of a single-vector model."""
        # A model of the PaliGemma family would work out the likelihood of its own prompt.
        given = {key: value.to(self._device) for key, value in inputs.items() if key != "labels"}
        if self._is_paligemma:
            given["logits_to_keep"] = 1
        return self._model(**given).float()

    def _ahead(self, batches: Iterator[list[int]]) -> Iterator[_Prepared]:
        """Batches as inputs, with what their boxes are about; the next is drawn and cut up while the model works."""
        with ThreadPoolExecutor(1) as pool:
            coming = (pool.submit(self._inputs, [self._pairs[i] for i in batch]) for batch in batches)
            waiting = next(coming, None)
            while waiting is not None:
                inputs = waiting.result()
                waiting = next(coming, None)
                yield inputs

    def _pictures(self, pages: Sequence[str]) -> Any:
        return self._processor.process_images([no_line(self._draw(page)) for page in pages])

    def _inputs(self, batch: Sequence[Pair]) -> _Prepared:
        negatives = [key for pair in batch for key in pair.negatives]
        keys = [pair.page for pair in batch]
        inputs = {
            "query_embeddings": self._processor.process_queries([pair.question for pair in batch]),
            "doc_embeddings": self._pictures(keys),
        }
        if negatives:
            inputs["neg_doc_embeddings"] = self._pictures(negatives)
        if self._box_loss is None:
            return inputs, None
        return inputs, self._box_loss.targets(batch, inputs["query_embeddings"], inputs["doc_embeddings"])

    def _save(self, step: int) -> None:
        import torch

        self._run.save_state(
            {
                "step": step,
                "learned": {name: p.detach() for name, p in self._learning.items()},
                "optimizer": self._optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all() if self._device.type == "cuda" else [],
            }
        )

    def _resume(self) -> int:
        """The step that the state in the run folder is of, 0 without one."""
        import torch

        state = self._run.load_state()
        if state is None:
            self._run.keep_steps(0)
            return 0
        with torch.no_grad():
            for name, parameter in self._learning.items():
                parameter.copy_(state["learned"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self._run.keep_steps(state["step"])
        return int(state["step"])
