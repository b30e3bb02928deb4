"""The definition of a page's score in float64, slow and obvious; pages and queries to try it on."""

import itertools

import numpy as np


def naive_score(page_N_D, query_T_D, weights_T, block_rows=0):
    page = np.asarray(page_N_D, dtype=np.float64)
    passages = [page]
    if block_rows:
        blocks = [page[i : i + block_rows] for i in range(0, len(page), block_rows)]
        passages = [np.concatenate(pair) for pair in itertools.pairwise(blocks)] or blocks
    query = np.asarray(query_T_D, dtype=np.float64)
    return max(
        sum(weight * max(float(vector @ q) for vector in passage) for q, weight in zip(query, weights_T, strict=True))
        for passage in passages
    )


def unit(rng, n, d, dtype=np.float32):
    vectors = rng.normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)
