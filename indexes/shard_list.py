"""Which shards a folder has (`shards.json`), and which of them a document belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from colsearcher.indexes.errors import IndexProblem, UserError

FILE = "shards.json"
FORMAT = 1


def shard_of(document: str, shards: int) -> int:
    """The shard that a document belongs to, for good.

    >>> [shard_of(name, 3) for name in ("a.pdf", "b.pdf", "c.pdf", "d.pdf")]
    [2, 0, 2, 2]
    """
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:8]) % shards


def is_sharded(folder: Path) -> bool:
    """True where a folder is one of shards."""
    return (folder / FILE).is_file()


def write_shards(folder: Path, shards: Sequence[str]) -> None:
    """Say which shards a folder has: names of folders in it, or http://host:port.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / f"{FILE}.new"
        written.write_text(json.dumps({"format": FORMAT, "shards": list(shards)}, indent=1) + "\n")
        written.replace(folder / FILE)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name a folder that you may write.") from None


def read_shards(folder: Path) -> list[str]:
    """The shards of a folder, as `write_shards` was given them.

    Raises:
        IndexProblem: its `shards.json` cannot be read, or names no shard.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IndexProblem(f"{path} cannot be read ({error}); it has to be a JSON object with a list «shards».") from None
    shards = found.get("shards") if isinstance(found, dict) else None
    if not isinstance(shards, list) or not shards or not all(isinstance(shard, str) for shard in shards):
        raise IndexProblem(f"{path} names no shards; it has to be a JSON object with a list «shards» of folders or URLs.")
    if found.get("format") != FORMAT:
        raise IndexProblem(f"{path} has format {found.get('format')}, this version of ColSearcher reads {FORMAT}.")
    if len(set(shards)) < len(shards):
        raise IndexProblem(f"{path} names a shard twice; its pages would be found twice: name it once.")
    return shards
