"""Pairs from a `datasets` dataset with the columns `query` and `image`, as colpali_train_set has them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from colsearcher.indexes.errors import UserError
from colsearcher.training.retriever.pairs import PairSet, pairs_of

if TYPE_CHECKING:
    import datasets

_READERS = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json"}


def dataset_pairs(name: str, *, max_pixels: int, limit: int | None = None) -> PairSet:
    """Pairs from a dataset: a folder of `save_to_disk`, a parquet, arrow or JSON file or a folder of them, or a hub id.

    Of a dataset with several splits «train» is taken. A row is `query`, `image` (a picture, or in JSON a path relative to the
    file) and optionally `image_filename`, which says that two rows show the same page; without it the picture's bytes do.
    Rows without a query count as pages to rank.

    Raises:
        UserError: there is no such dataset, it lacks a column, or no row has a query.
    """
    rows = _load(name)
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
        key = row["image_filename"] if named else hashlib.sha256(_bytes(row["image"], beside)).hexdigest()
        first_row.setdefault(key, i)
        if row["query"]:
            asked.append((row["query"], [key]))
    if not asked:
        raise UserError(f"No row of {name} has a query; a retriever learns from pages with questions.")

    def draw(key: str) -> Image.Image:
        with Image.open(io.BytesIO(_bytes(rows[first_row[key]]["image"], beside))) as picture:
            shown = picture.convert("RGB")
        scale = (max_pixels / (shown.width * shown.height)) ** 0.5
        return shown.resize((round(shown.width * scale), round(shown.height * scale))) if scale < 1 else shown

    return PairSet(pairs_of(asked), tuple(first_row), draw)


def _load(name: str) -> datasets.Dataset:
    import datasets

    datasets.disable_progress_bars()
    path = Path(name)
    if path.is_dir() and any((path / file).is_file() for file in ("state.json", "dataset_dict.json")):
        found = datasets.load_from_disk(str(path))
    elif path.exists():
        files = sorted(path.glob("*")) if path.is_dir() else [path]
        kinds = {_READERS[file.suffix] for file in files if file.suffix in _READERS}
        if len(kinds) != 1:
            raise UserError(f"{path} is no dataset; give a folder of save_to_disk, or parquet, arrow or JSON files.")
        data_files = [str(file) for file in files if file.suffix in _READERS]
        found = datasets.load_dataset(kinds.pop(), data_files=data_files, split="train")
    else:
        try:
            found = datasets.load_dataset(name, split="train")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"There is no dataset «{name}» here, and the hub does not give it ({reason}).") from None
    if isinstance(found, datasets.DatasetDict):
        if "train" not in found:
            raise UserError(f"The dataset {name} has the splits {', '.join(found)}; name the folder of one of them.")
        found = found["train"]
    is_picture = isinstance(found.features.get("image"), datasets.Image)
    return found.cast_column("image", datasets.Image(decode=False)) if is_picture else found


def _bytes(image: Any, beside: Path) -> bytes:
    if isinstance(image, dict):
        return image["bytes"] or Path(image["path"]).read_bytes()
    path = beside / image
    if not path.is_file():
        raise UserError(f"The picture {path} of the dataset is not there; paths are relative to the file that names them.")
    return path.read_bytes()
