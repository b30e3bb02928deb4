"""A file of passages as a corpus: read, indexed once, ranked like pages.

A passage is a page of the document that its title names, so that it has an address (`Tulip#p=1`), scores and citations like
any other page. Left out: pictures; a passage has words only.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.page_index import PageIndex
from colsearcher.indexes.records import DocumentRecord
from colsearcher.retrieval.embedder import PageEmbedder
from colsearcher.retrieval.indexing import page_record
from colsearcher.retrieval.page import Page, Word

_BATCH = 512
_SHAPES = '{"title" or "id": …, "text": …}, {"title": …, "sentences": […]}, {"id": …, "contents": "title\\ntext"}'


@dataclass(frozen=True)
class PassageFile:
    """What a file of passages holds.

    Attributes:
        documents: for each document its passages in the file's order, as they are indexed and shown.
        sha256: of the file.
    """

    documents: Mapping[str, tuple[str, ...]]
    sha256: str

    @property
    def passages(self) -> int:
        return sum(map(len, self.documents.values()))


def read_passages(path: Path) -> PassageFile:
    """Read a JSONL file of passages.

    A line is `{"title", "text"}` (or `"id"` where there is no title), `{"title", "sentences"}`, Search-R1's `{"id", "contents":
    "title\\ntext"}`, or a HotpotQA-style question, whose `context` paragraphs are passages. Passages with one title are its
    pages 1, 2, … in the file's order; the differing texts that the questions' contexts have for a title are one page. What
    stands there twice counts once.

    Raises:
        UserError: no such file, a line that is no passage, or none at all.
    """
    try:
        data = path.read_bytes()
        lines = data.decode().split("\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a JSONL file of passages.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; name a JSONL file of passages.") from None
    pages: dict[str, dict[str, None]] = {}
    paragraphs: dict[str, dict[str, None]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            is_question = "context" in record
            for name, title, text in _paragraphs(record) if is_question else [_passage(record)]:
                if is_question:
                    paragraphs.setdefault(name, {})[text] = None
                else:
                    pages.setdefault(name, {})[titled(title, text)] = None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}:{number} is no passage ({error}); a line is {_SHAPES}, or a question with context."
            ) from None
    for title, texts in paragraphs.items():
        pages.setdefault(title, {})[titled(one_line(title), " ".join(texts))] = None
    if not pages:
        raise UserError(f"{path} holds no passages; give a JSONL file with one passage per line.")
    return PassageFile({name: tuple(texts) for name, texts in pages.items()}, hashlib.sha256(data).hexdigest())


def titled(title: str, text: str) -> str:
    """What is indexed and shown of a passage.

    >>> titled("Tulip", "Tulips are planted in October.")
    'Tulip. Tulips are planted in October.'
    """
    return f"{title}. {text}" if title else text


def one_line(text: str) -> str:
    """Text without line breaks and without halves of characters, which JSON may hold and UTF-8 may not.

    >>> one_line("a \\n b\\ud800")
    'a b?'
    """
    return " ".join(text.encode("utf-8", "replace").decode().split())


def split_contents(contents: str) -> tuple[str, str]:
    """Title and text of Search-R1's one string, whose first line is the title in quotes.

    >>> split_contents('"Tulip"\\nTulips are planted in October.')
    ('Tulip', 'Tulips are planted in October.')
    """
    title, line_end, text = contents.partition("\n")
    return (title.strip().strip('"').strip(), text.strip()) if line_end else ("", contents.strip())


def index_passages(
    folder: Path,
    documents: Mapping[str, Sequence[str]],
    embedder: PageEmbedder,
    on_progress: Callable[[int, int], None] = lambda done, all: None,
) -> PageIndex:
    """The index of passages at a folder; what it lacks is added, so that one that was stopped goes on.

    Args:
        documents: for each document its passages, each the text of a page.
        on_progress: called with how many passages of how many are indexed.

    Raises:
        IndexProblem: another embedder made what is there, or another process is writing it.
    """
    if PageIndex.exists(folder):
        index = PageIndex.open(folder)
        index.manifest.require_embedder(embedder.name, embedder.revision)
    else:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest(embedder.name, embedder.revision, embedder.dim, embedder.block_rows, "none", "never", "", now)
        index = PageIndex.create(folder, manifest)
    stored = {record.document for record in index.documents()}
    missing = {name: texts for name, texts in documents.items() if name not in stored}
    if missing:
        total = sum(map(len, documents.values()))
        done = total - sum(map(len, missing.values()))
        with index.writing():
            for batch in _batches(missing):
                pages = [_page(name, number, text) for name, texts in batch for number, text in enumerate(texts, 1)]
                embeddings = embedder.embed_pages(pages)
                index.add(
                    [DocumentRecord(name, "", "passage", len(texts)) for name, texts in batch],
                    [page_record(page, embedding) for page, embedding in zip(pages, embeddings, strict=True)],
                )
                done += len(pages)
                on_progress(done, total)
    return index


def _batches(documents: Mapping[str, Sequence[str]]) -> Iterator[list[tuple[str, Sequence[str]]]]:
    """Whole documents, some `_BATCH` passages at a time."""
    batch: list[tuple[str, Sequence[str]]] = []
    for item in documents.items():
        batch.append(item)
        if sum(len(texts) for _, texts in batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _page(document: str, number: int, text: str) -> Page:
    words = tuple(Word(word, (0.0, 0.0, 1.0, 1.0)) for word in text.split())
    return Page(document, number, None, (595.0, 842.0), words, "text")


def _passage(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """(document, title, text)."""
    if "contents" in record:
        title, text = split_contents(_text(record["contents"], "contents"))
    else:
        title = _text(record.get("title", ""), "title")
        text = _text(record["text"], "text") if "text" in record else _joined(record["sentences"])
    # The name keeps the spaces of the title, which gold titles are compared with.
    name = (title if title.strip() else str(record.get("id", ""))).encode("utf-8", "replace").decode()
    if not name.strip():
        raise KeyError("title")
    return name, one_line(title), one_line(text)


def _paragraphs(record: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """The context of a question: objects, or HotpotQA's own pairs of title and sentences."""
    for paragraph in record["context"]:
        yield _passage(paragraph if isinstance(paragraph, dict) else dict(zip(("title", "sentences"), paragraph, strict=True)))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value


def _joined(sentences: Any) -> str:
    if not isinstance(sentences, list):
        raise TypeError("sentences is not a list")
    return "".join(itertools.starmap(_text, ((sentence, "a sentence") for sentence in sentences)))
