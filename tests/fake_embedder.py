"""A tiny real embedder: every word is a fixed random direction, so equal words match and nothing else does."""

from __future__ import annotations

import hashlib

import numpy as np

from colsearcher.indexes.records import PageEmbedding, QueryEmbedding


class HashEmbedder:
    name = "hash"
    revision = hashlib.sha256(b"hash embedder").hexdigest()
    dim = 32
    block_rows = 0
    picture_pixels = 0
    device = "cpu"

    def __init__(self):
        self.pages_embedded = 0

    def embed_pages(self, pages):
        self.pages_embedded += len(pages)
        return [
            PageEmbedding(
                self._vectors([word.text for word in page.words]),
                np.array([word.box for word in page.words], np.float32).reshape(-1, 4),
                np.zeros(len(page.words), bool),
            )
            for page in pages
        ]

    def embed_queries(self, texts):
        return [
            QueryEmbedding(
                self._vectors(words), np.ones(len(words), np.float32), tuple(words), np.zeros(len(words), bool), text
            )
            for text, words in ((text, text.lower().split()) for text in texts)
        ]

    def _vectors(self, words):
        vectors = np.empty((len(words), self.dim), np.float32)
        for row, word in enumerate(words):
            digest = hashlib.sha256(word.lower().strip(".,:;?!").encode()).digest()
            vectors[row] = np.random.default_rng(int.from_bytes(digest[:8])).normal(size=self.dim)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
