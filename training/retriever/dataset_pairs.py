"""Pairs from a `datasets` dataset with the columns `query` and `image`, as colpali_train_set has them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from colsearcher.indexes.errors import UserError
from colsearcher.training.dataset_rows import dataset_rows, picture_bytes
from colsearcher.training.retriever.pairs import PairSet, pairs_of


def dataset_pairs(name: str, *, max_pixels: int, limit: int | None = None) -> PairSet:
    """Pairs from a dataset: a folder of `save_to_disk`, a parquet, arrow or JSON file or a folder of them, or a hub id.

    Of a dataset with several splits «train» is taken. A row is `query`, `image` (a picture, or in JSON a path relative to the
    file) and optionally `image_filename`, which says that two rows show the same page; without it the picture's bytes do.
    Rows without a query count as pages to rank.

    Raises:
        UserError: there is no such dataset, it lacks a column, or no row has a query.
    """
    rows = dataset_rows(name)
    for column in ("query", "image"):
        if column not in rows.column_names:
            raise UserError(f"The dataset {name} has the columns {', '.join(rows.column_names)}; it needs query and image.")
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    beside = Path(name).parent if Path(name).is_file() else Path(name)
    first_row: dict[str, int] = {}
    asked: list[tuple[str, list[str]]] = []
    named = rows.column_names.count("image_filename")
    for i, row in enumerate(rows.select_columns(["query", "image_filename"] if named else ["query", "image"])):
        key = row["image_filename"] if named else hashlib.sha256(picture_bytes(row["image"], beside)).hexdigest()
        first_row.setdefault(key, i)
        if row["query"]:
            asked.append((row["query"], [key]))
    if not asked:
        raise UserError(f"No row of {name} has a query; a retriever learns from pages with questions.")

    def draw(key: str) -> Image.Image:
        with Image.open(io.BytesIO(picture_bytes(rows[first_row[key]]["image"], beside))) as picture:
            shown = picture.convert("RGB")
        scale = (max_pixels / (shown.width * shown.height)) ** 0.5
        return shown.resize((round(shown.width * scale), round(shown.height * scale))) if scale < 1 else shown

    return PairSet(pairs_of(asked), tuple(first_row), draw)
