"""Cold start: a policy learns from examples before it learns from rewards. Loss is on the policy's own tokens only.

TRL's SFTTrainer over examples that are tokens already; documents, prompts and what the environment wrote carry the label that
cross-entropy ignores. Left out: where examples come from (`cold_start`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from colsearcher.indexes.errors import UserError
from colsearcher.training import processes
from colsearcher.training.policy.cold_start import Example

_IGNORED = -100


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples as JSONL; how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            file.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_examples(path: Path) -> list[Example]:
    """What `write_examples` wrote.

    Raises:
        UserError: there are none.
    """
    if not path.is_file():
        raise UserError(f"There are no examples at {path}; `colsearcher train sft` writes them first.")
    found = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        given = json.loads(line)
        prompt_ids, ids, mask = (tuple(given[name]) for name in ("prompt_ids", "ids", "mask"))
        found.append(Example(given["question"], prompt_ids, ids, mask, given["text"]))
    return found


@dataclass(frozen=True)
class Cold:
    """How to learn from examples.

    Attributes:
        batch: conversations in a step, in passes of `at_once`.
        warmup: the share of the steps in which the rate rises.
        save_every: steps between two states to resume from.
        max_steps: in place of `epochs` where it is positive.
    """

    epochs: float = 2.0
    batch: int = 16
    at_once: int = 2
    lr: float = 2e-4
    warmup: float = 0.05
    seed: int = 0
    save_every: int = 10
    max_steps: int = -1
    bf16: bool = False
    gradient_checkpointing: bool = False


def rows_of(examples: Sequence[Example], eos: int) -> dict[str, list[list[int]]]:
    """Tokens and labels. The end of the message after an answer is learned too: a policy that goes on talking wastes tokens."""
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for example in examples:
        labels = [token if learned else _IGNORED for token, learned in zip(example.ids, example.mask, strict=True)]
        rows["input_ids"].append([*example.prompt_ids, *example.ids, eos])
        rows["labels"].append([*[_IGNORED] * len(example.prompt_ids), *labels, eos])
    return rows


def sft_trainer(model: Any, tokenizer: Any, examples: Sequence[Example], recipe: Cold, folder: Path) -> SFTTrainer:
    """TRL's trainer on the examples; checkpoints go into `folder`."""
    args = SFTConfig(
        str(folder),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.at_once,
        gradient_accumulation_steps=max(1, recipe.batch // (recipe.at_once * processes.count())),
        learning_rate=recipe.lr,
        warmup_steps=recipe.warmup,
        lr_scheduler_type="cosine",
        logging_steps=1,
        save_steps=recipe.save_every,
        save_total_limit=2,
        report_to=[],
        seed=recipe.seed,
        max_length=None,
        bf16=recipe.bf16,
        gradient_checkpointing=recipe.gradient_checkpointing,
        disable_tqdm=True,
        use_cpu=model.device.type == "cpu",
    )
    dataset = Dataset.from_dict(rows_of(examples, int(tokenizer.eos_token_id)))
    return SFTTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
