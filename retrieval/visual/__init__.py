"""Embedders that look at the page: every family of colpali-engine behind the one interface of `retrieval.embedder`."""
