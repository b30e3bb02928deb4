"""Everything that it takes to try training: model, pages, questions, and the command."""

from __future__ import annotations

import random
from pathlib import Path

from colsearcher.indexes.errors import UserError
from colsearcher.training.retriever.practice_model import write_checkpoint
from colsearcher.training.retriever.practice_pages import pictures, vocabulary, write_pages, write_questions

# What trains the small model in minutes; a large model that has learned to see wants the defaults instead.
RECIPE = "--full --lr 1e-3 --box-weight 0.5 --temperature 0.05 --batch 32"


def write_practice(folder: Path, *, train: int, held_out: int, seed: int) -> list[str]:
    """Write `checkpoint/`, `train/`, `held-out/`, `train.jsonl` and `held-out.jsonl`. No picture is in both sets of pages.

    Returns the command that trains on them, line by line.

    Raises:
        UserError: the folder is not empty, or a set would be.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder.")
    if train < 2 or held_out < 1:
        raise UserError("Training takes at least 2 pages and measuring 1.")
    rng = random.Random(seed)
    learned = pictures(train, rng)
    unseen = pictures(held_out, rng, without=frozenset(learned))
    for name, drawn in (("train", learned), ("held-out", unseen)):
        write_questions(folder / f"{name}.jsonl", write_pages(folder / name, name, drawn, rng))
    write_checkpoint(folder / "checkpoint", [vocabulary()], seed=seed)
    return [
        f"colsearcher train retriever --base {folder}/checkpoint --qa {folder}/train.jsonl --pages {folder}/train \\",
        f"  --eval-qa {folder}/held-out.jsonl --eval-pages {folder}/held-out {RECIPE} --steps 400 \\",
        f"  --out {folder}/run",
    ]
