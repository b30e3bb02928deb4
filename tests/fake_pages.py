"""Small page records of random unit vectors, for the tests of the index."""

from __future__ import annotations

import numpy as np

from colsearcher.indexes.manifest import Manifest
from colsearcher.indexes.records import DocumentRecord, PageEmbedding, PageRecord, QueryEmbedding

DIM = 16
MANIFEST = Manifest("hash", "r" * 64, DIM, 0, "pdfium", "auto", "none", "2026-01-01T00:00:00+00:00")


def unit(rng, n, dim=DIM):
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embedding(rng, n):
    boxes = np.sort(rng.uniform(size=(n, 2, 2)), axis=1).reshape(n, 4)
    return PageEmbedding(unit(rng, n), boxes, np.zeros(n, bool))


def page(document, number, *, rows=7, seed=None, text="", **more):
    rng = np.random.default_rng([hash_of(document), number] if seed is None else seed)
    words = text.split()
    return PageRecord(
        document,
        number,
        embedding(rng, rows),
        text,
        np.tile([0.1, 0.1, 0.2, 0.2], (len(words), 1)),
        (595.0, 842.0),
        "text",
        **more,
    )


def document(name, pages, *, sha="1", **metadata):
    return DocumentRecord(name, f"/corpus/{name}", sha * 64, pages, metadata)


def query(seed=0, text="", t=4):
    vectors = unit(np.random.default_rng(seed), t)
    return QueryEmbedding(vectors, np.ones(t, np.float32), ("",) * t, np.zeros(t, bool), text)


def hash_of(text):
    return sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**31
