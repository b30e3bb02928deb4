"""The files of a corpus: what a user's paths stand for, and the id that each document keeps for good."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colsearcher.indexes.errors import FileProblem, UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
PDF_SUFFIXES = frozenset({".pdf"})

SourceKind = Literal["pdf", "image"]


@dataclass(frozen=True)
class Source:
    """One file to read.

    Attributes:
        document: the document's id: the posix path relative to the folder that was added, or the file's own name.
        path: where the file is, absolute.
        kind: "pdf" or "image", by the file's suffix.
    """

    document: str
    path: Path
    kind: SourceKind


@dataclass(frozen=True)
class ReadProblem:
    """Something that could not be read; the run goes on without it.

    Attributes:
        document: the id of the document or, for a folder that could not be listed, its path.
        page: the 1-based page, None where the whole document is meant.
        reason: one sentence.
    """

    document: str
    page: int | None
    reason: str

    def __str__(self) -> str:
        place = self.document if self.page is None else f"{self.document} page {self.page}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True)
class Sources:
    """What `find_sources` found.

    Attributes:
        files: the sources in the order of the paths given; within a folder sorted by id.
        ignored: how many files inside the folders are neither PDF nor image.
        problems: folders that could not be listed.
    """

    files: tuple[Source, ...]
    ignored: int = 0
    problems: tuple[ReadProblem, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Source]:
        return iter(self.files)


def find_sources(paths: Sequence[Path]) -> Sources:
    """Turn the paths a user named into sources with stable ids.

    A folder is walked recursively in sorted order; hidden files and folders are skipped and links to folders are not
    followed. The id of a file found so is its posix path relative to that folder; a file named directly gets its own
    name. A file reached twice under one id counts once. Bytes of a name that are not UTF-8 appear in the id as `\\xNN`.

    Raises:
        UserError: a path does not exist, a named file is neither PDF nor image, or two files would share an id.
    """
    found: dict[str, Source] = {}
    problems: list[ReadProblem] = []
    ignored = 0
    for path in (Path(path) for path in paths):
        if path.is_dir():
            for file in _walk(path, problems):
                kind = _kind(file)
                if kind is None:
                    ignored += 1
                else:
                    _add(found, Source(_document_id(file.relative_to(path)), file.absolute(), kind))
        elif path.exists():
            kind = _kind(path)
            if kind is None:
                known = " ".join(sorted(PDF_SUFFIXES | IMAGE_SUFFIXES))
                raise UserError(f"«{_shown(path)}» is neither a PDF nor an image; ColSearcher reads {known}.")
            _add(found, Source(_document_id(Path(path.name)), path.absolute(), kind))
        else:
            raise UserError(f"«{_shown(path)}» does not exist; check the spelling.")
    return Sources(tuple(found.values()), ignored, tuple(problems))


def content_hash(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits.

    Raises:
        FileProblem: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileProblem(unreadable(error)) from error


def unreadable(error: OSError) -> str:
    """The sentence for a file or folder that the system does not let us read."""
    why = (error.strerror or type(error).__name__).lower()
    return f"The system cannot read it ({why}); check that it is there and readable."


def _walk(folder: Path, problems: list[ReadProblem]) -> Iterator[Path]:
    def report(error: OSError) -> None:
        problems.append(ReadProblem(_shown(Path(error.filename)), None, unreadable(error)))

    files: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return iter(sorted(files, key=lambda file: _document_id(file.relative_to(folder))))


def _kind(path: Path) -> SourceKind | None:
    suffix = path.suffix.lower()
    if suffix in PDF_SUFFIXES:
        return "pdf"
    return "image" if suffix in IMAGE_SUFFIXES else None


def _add(found: dict[str, Source], source: Source) -> None:
    other = found.setdefault(source.document, source)
    if is_another_file(other.path, source.path):
        raise UserError(
            f"«{_shown(other.path)}» and «{_shown(source.path)}» would both be called «{source.document}»; "
            "add the folder above them, or rename one."
        )


def is_another_file(known: Path, path: Path) -> bool:
    """Whether what was read from `known` is still there, and is not what lies at `path`."""
    return known != path and known.exists() and not (path.exists() and known.samefile(path))


def _document_id(relative: Path) -> str:
    return _shown(Path(relative.as_posix())).replace(os.sep, "/")


def _shown(path: Path) -> str:
    """The path as text that any UTF-8 stream can carry."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")
