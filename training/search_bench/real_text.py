"""Vectors of real text: passages, pages and questions of the project's data folder, read by the embedded default.

all-MiniLM-L6-v2's 384 dimensions become 128, those of colpali-like models, by the leading directions of the vectors' second
moments (a PCA without centring, so that inner products keep their meaning); then each vector has length 1 again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.manifest import FORMAT
from colsearcher.indexes.page_index import PageIndex
from colsearcher.retrieval.corpus import find_sources
from colsearcher.retrieval.embedder import PageEmbedder, load_embedder
from colsearcher.retrieval.indexing import add_documents, missing_work, open_or_create
from colsearcher.retrieval.page import Page, Word
from colsearcher.retrieval.reading import ReadSettings
from colsearcher.training.search_bench.page_vectors import Chunks
from colsearcher.training.search_bench.presets import DIM, SEED

BATCH = 128
SAMPLE = 1_000
# Passages of at most so many words have 95 vectors on average.
SHORT_WORDS = 150


@dataclass(frozen=True)
class Questions:
    """Texts of queries and their vectors, (t, DIM) float32 each."""

    texts: list[str]
    vectors: list[np.ndarray]


class RealText:
    """The vectors of a data folder.

    Args:
        data: the folder that holds `multihop/` and `docs/`.
        work: folder for the index of the documents.

    Raises:
        ModelProblem: the embedder's weights are not installed.
    """

    name = "real"

    def __init__(self, data: Path, work: Path, tell: Callable[[str], None]) -> None:
        self._data = data
        self._work = work
        self._tell = tell
        self._embedder: PageEmbedder = load_embedder()

    @property
    def about(self) -> str:
        return (
            "token vectors by all-MiniLM-L6-v2 of the multi-hop passages (HotpotQA, 2WikiMultihopQA, MuSiQue) and of the PDF "
            f"pages of {self._data}, projected from {self._embedder.dim} to {DIM} dimensions by PCA"
        )

    @property
    def recipe(self) -> dict[str, object]:
        passages = hashlib.sha256(self._passages_file.read_bytes()).hexdigest()
        return {
            "passages": passages,
            "short": SHORT_WORDS,
            "embedder": self._embedder.revision,
            "sample": SAMPLE,
        }

    @property
    def passages(self) -> int:
        """How many of `texts` are passages; those after them are pages."""
        return len(self._passages)

    def short_texts(self, count: int) -> Chunks:
        """So many passages of at most `SHORT_WORDS` words, chosen at random."""
        short = [page for page in self._passages if len(page.words) <= SHORT_WORDS]
        chosen = np.sort(np.random.default_rng(SEED).permutation(len(short))[:count])
        return self._embedded([short[i] for i in chosen])

    def texts(self) -> Chunks:
        """All passages, then all pages of the documents that have vectors."""
        passages = self._embedded(self._passages)
        with PageIndex.open(self._index) as index:
            names = index.pages()

        def make(i: int) -> Sequence[np.ndarray]:
            if i < passages.count:
                return passages.make(i)
            first = (i - passages.count) * BATCH
            with PageIndex.open(self._index) as index:
                pages = [index.embedding(*name).vectors for name in names[first : first + BATCH]]
            return [self._projected(vectors) for vectors in pages if len(vectors)]

        return Chunks(passages.count - (-len(names) // BATCH), make)

    def questions(self, passages: int, documents: int) -> Questions:
        """So many questions about the passages and about the documents, the two kinds mixed."""
        asked = _questions(self._data / "multihop" / "dev_context.jsonl", passages)
        asked += _questions(self._data / "docs" / "qa.jsonl", documents) if documents else []
        order = np.random.default_rng(SEED).permutation(len(asked))
        texts = [asked[i] for i in order]
        vectors = [_unit(query.vectors.astype(np.float32) @ self._basis) for query in self._embedder.embed_queries(texts)]
        return Questions(texts, vectors)

    @property
    def _passages_file(self) -> Path:
        return self._data / "multihop" / "corpus.jsonl"

    @functools.cached_property
    def _passages(self) -> list[Page]:
        with self._passages_file.open(encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        texts = dict.fromkeys(f"{record['title']}. {record['text']}" for record in records)
        return [_page(f"passage-{i}", text) for i, text in enumerate(texts)]

    @functools.cached_property
    def _basis(self) -> np.ndarray:
        """(embedder's dim, DIM) float32, orthonormal columns; kept in a file."""
        file = self._work / f"projection-{hashlib.sha256(json.dumps(self.recipe).encode()).hexdigest()[:8]}.npy"
        if file.exists():
            return np.load(file)
        self._tell(f"fitting the projection to {DIM} dimensions on {SAMPLE:,} passages")
        chosen = np.random.default_rng(SEED).permutation(len(self._passages))[:SAMPLE]
        moments = np.zeros((self._embedder.dim, self._embedder.dim))
        for start in range(0, len(chosen), BATCH):
            for page in self._embedder.embed_pages([self._passages[i] for i in chosen[start : start + BATCH]]):
                vectors = page.vectors.astype(np.float32)
                moments += vectors.T @ vectors
        basis = np.linalg.eigh(moments)[1][:, : -DIM - 1 : -1].astype(np.float32)
        self._work.mkdir(parents=True, exist_ok=True)
        np.save(file, basis)
        return basis

    def _embedded(self, pages: Sequence[Page]) -> Chunks:
        def make(i: int) -> list[np.ndarray]:
            return [self._projected(page.vectors) for page in self._embedder.embed_pages(pages[i * BATCH : (i + 1) * BATCH])]

        return Chunks(-(-len(pages) // BATCH), make)

    def _projected(self, vectors_N_E: np.ndarray) -> np.ndarray:
        return _unit(vectors_N_E.astype(np.float32) @ self._basis).astype(np.float16)

    @functools.cached_property
    def _index(self) -> Path:
        """The folder of the documents' index, complete."""
        folder, settings = self._work / f"documents-{FORMAT}-{self._embedder.revision[:8]}", ReadSettings()
        sources = find_sources([self._data / "docs"])
        self._tell(f"indexing {len(sources)} documents (minutes, the first time)")
        with open_or_create(folder, self._embedder, settings) as index, index.writing():
            add_documents(index, self._embedder, missing_work(index, sources), settings)
        return folder


def _questions(path: Path, count: int) -> list[str]:
    with path.open(encoding="utf-8") as file:
        texts = list(dict.fromkeys(json.loads(line)["question"] for line in file))
    if len(texts) < count:
        raise UserError(f"{path} holds {len(texts)} questions where the bench asks {count}; give the whole data folder.")
    return [texts[i] for i in np.sort(np.random.default_rng(SEED).permutation(len(texts))[:count])]


def _page(name: str, text: str) -> Page:
    words = tuple(Word(word, (0.0, 0.0, 1.0, 1.0)) for word in text.split())
    return Page(name, 1, None, (595.0, 842.0), words, "text")


def _unit(vectors_N_D: np.ndarray) -> np.ndarray:
    return vectors_N_D / np.linalg.norm(vectors_N_D, axis=1, keepdims=True)
