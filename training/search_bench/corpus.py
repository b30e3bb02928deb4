"""What every engine is given: page vectors, queries and the exact answers in files, made once per preset and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from colsearcher.indexes.errors import UserError
from colsearcher.training.search_bench import distractors
from colsearcher.training.search_bench.page_vectors import Chunks, PageVectors, clear_unless_made_by, write_pages
from colsearcher.training.search_bench.presets import DEPTH, DIM, SEED, Preset
from colsearcher.training.search_bench.real_text import Questions, RealText
from colsearcher.training.search_bench.synthetic import SyntheticText
from colsearcher.training.search_bench.truth import best_pages, exact_scores

DEFAULT_DATA = Path("../shared/data")
_FORMAT = 1


class Source(Protocol):
    """Where vectors come from: `RealText` or `SyntheticText`."""

    name: str

    @property
    def about(self) -> str: ...

    @property
    def recipe(self) -> dict[str, object]: ...

    @property
    def passages(self) -> int: ...

    def short_texts(self, count: int) -> Chunks: ...

    def texts(self) -> Chunks: ...

    def questions(self, passages: int, documents: int) -> Questions: ...


@dataclass(frozen=True)
class Corpus:
    """A folder with `vectors.npy`, `offsets.npy` (`PageVectors`), `queries.npy` (ΣT, DIM) float32 with `query_offsets.npy`,
    `queries.txt` with a line for each, and `truth.npy` (Q, DEPTH) int64.

    Attributes:
        about: where the vectors come from.
    """

    folder: Path
    pages: int
    vectors: int
    queries: int
    query_vectors: int
    about: str

    @property
    def facts(self) -> dict[str, object]:
        return {
            "pages": self.pages,
            "vectors": self.vectors,
            "dim": DIM,
            "queries": self.queries,
            "vectors_per_query": round(self.query_vectors / self.queries, 1),
            "source": self.about,
        }


def find_source(data: Path | None, out: Path, tell: Callable[[str], None]) -> Source:
    """The real text of a data folder; synthetic vectors where none is named and the default is absent, which is told.

    Raises:
        UserError: the folder that is named holds no passages.
    """
    if ((data or DEFAULT_DATA) / "multihop" / "corpus.jsonl").exists():
        return RealText(data or DEFAULT_DATA, out, tell)
    if data is not None:
        raise UserError(f"{data} holds no multihop/corpus.jsonl; leave --data out for synthetic vectors.")
    tell(SyntheticText.about)
    return SyntheticText()


def prepare(preset: Preset, source: Source, out: Path, tell: Callable[[str], None]) -> Corpus:
    """Make what is missing of a preset's files under `out`."""
    folder = out / (preset.name if source.name == "real" else f"{preset.name}-{source.name}")
    made_by = {"format": _FORMAT, "seed": SEED, "dim": DIM, **source.recipe}
    about = source.about
    if preset.kind == "passages":
        clear_unless_made_by(folder, {**made_by, "passages": preset.pages})
        pages = write_pages(folder, source.short_texts(preset.pages), DIM, _progress("encoding passages", tell))
    else:
        base = _base(source, made_by, out, tell)
        clear_unless_made_by(folder, {**made_by, "pages": preset.pages, "distractors": distractors.RECIPE})
        chunks = distractors.page_chunks(base, source.passages, preset.pages)
        pages = write_pages(folder, chunks, DIM, _progress(f"making {preset.pages:,} pages", tell))
        about += (
            "; passages are packed to pages, and distractor pages are recombined from windows of 16 to 48 vectors, each turned "
            f"to a cosine of {distractors.COSINE[0]:.2f} to {distractors.COSINE[1]:.2f} with its origin"
        )
    truth = folder / "truth.npy"
    if not truth.exists() or len(np.load(truth)) != preset.questions + preset.document_questions:
        _write_queries(folder, pages, source.questions(preset.questions, preset.document_questions), tell)
    offsets = np.load(folder / "query_offsets.npy")
    return Corpus(folder, len(pages), len(pages.vectors_N_D), len(offsets) - 1, int(offsets[-1]), about)


def _base(source: Source, made_by: Mapping[str, object], out: Path, tell: Callable[[str], None]) -> PageVectors:
    folder = out / f"base-{source.name}"
    clear_unless_made_by(folder, made_by)
    if (folder / "offsets.npy").exists():
        return PageVectors.open(folder)
    return write_pages(folder, source.texts(), DIM, _progress("encoding passages and documents", tell))


def _write_queries(folder: Path, pages: PageVectors, questions: Questions, tell: Callable[[str], None]) -> None:
    np.save(folder / "queries.npy", np.concatenate(questions.vectors).astype(np.float32))
    np.save(folder / "query_offsets.npy", np.cumsum([0, *map(len, questions.vectors)]))
    lines = (" ".join(text.split()) for text in questions.texts)
    (folder / "queries.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    tell(f"exact answers to {len(questions.texts)} questions on {len(pages.vectors_N_D):,} vectors")
    best = best_pages(exact_scores(pages, questions.vectors), min(DEPTH, len(pages)))
    np.save(folder / "truth.new.npy", best)
    (folder / "truth.new.npy").rename(folder / "truth.npy")


def _progress(verb: str, tell: Callable[[str], None]) -> Callable[[int, int], None]:
    """A line every ten seconds."""
    started = said = time.monotonic()

    def on_progress(done: int, count: int) -> None:
        nonlocal said
        if done == count or time.monotonic() - said > 10:
            said = time.monotonic()
            tell(f"{verb}: {100 * done / count:.0f} % in {said - started:.0f} s")

    return on_progress
