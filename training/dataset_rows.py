"""Rows of a `datasets` dataset, wherever it is: saved to disk, in files, or on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    import datasets

_READERS = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json"}


def dataset_rows(name: str, split: str = "train", config: str | None = None) -> datasets.Dataset:
    """The rows of a folder of `save_to_disk`, of a parquet, arrow or JSON file or a folder of them, or of a hub id. Pictures
    are left as bytes.

    Raises:
        UserError: there is no such dataset, or it has no such split.
    """
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
            found = datasets.load_dataset(name, config, split=split)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"There is no dataset «{name}» here, and the hub does not give it ({reason}).") from None
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise UserError(f"The dataset {name} has the splits {', '.join(found)}, not {split}; name one of them.")
        found = found[split]
    is_picture = isinstance(found.features.get("image"), datasets.Image)
    return found.cast_column("image", datasets.Image(decode=False)) if is_picture else found


def picture_bytes(image: Any, beside: Path) -> bytes:
    """The file of a picture column's value.

    Raises:
        UserError: it is a path that leads nowhere.
    """
    if isinstance(image, dict):
        return image["bytes"] or Path(image["path"]).read_bytes()
    path = beside / image
    if not path.is_file():
        raise UserError(f"The picture {path} of the dataset is not there; paths are relative to the file that names them.")
    return path.read_bytes()
