"""A fixed random rotation: after it every component of a vector carries about as much, so that few bits do for each.

Inner products do not change when both sides are rotated, and nothing is trained, so pages can be added for ever. (The reason
why it works: Gao & Long, RaBitQ, SIGMOD 2024.)
"""

from __future__ import annotations

import functools

import numpy as np

# A dense matrix up to here; above it a Kronecker product of two, which costs D·(f + D/f) a vector in place of D².
_DENSE = 512


def rotate(vectors_N_D: np.ndarray) -> np.ndarray:
    """(N, D) float32: the vectors turned by the one rotation that belongs to their dimension.

    >>> x = np.eye(3, 6, dtype=np.float32)
    >>> np.allclose(rotate(x) @ rotate(x).T, np.eye(3), atol=1e-6)
    True
    """
    return _apply(vectors_N_D, transpose=False)


def rotate_rows(vectors_N_D: np.ndarray) -> np.ndarray:
    """`rotate` for pages, on one processor and each row by itself: its rounding does not depend on what else is turned.

    >>> x = np.random.default_rng(0).normal(size=(20, 100)).astype(np.float32)
    >>> np.allclose(rotate_rows(x), rotate(x), atol=1e-5)
    True
    """
    from colsearcher.indexes.kernels.product import multiply

    left, right = _factors(vectors_N_D.shape[1])
    return _turn_left(multiply(vectors_N_D.reshape(-1, len(right)), _panels(vectors_N_D.shape[1]), len(right)), left)


def rotate_back(vectors_N_D: np.ndarray) -> np.ndarray:
    """The inverse of `rotate`."""
    return _apply(vectors_N_D, transpose=True)


def _apply(vectors_N_D: np.ndarray, *, transpose: bool) -> np.ndarray:
    n, dim = vectors_N_D.shape
    left, right = _factors(dim)
    if transpose:
        left, right = left.T, right.T
    # One product of two matrices: numpy multiplies a stack of rows one by one.
    return _turn_left(vectors_N_D.astype(np.float32, copy=False).reshape(n * len(left), len(right)) @ right, left)


def _turn_left(x: np.ndarray, left: np.ndarray) -> np.ndarray:
    """(N, f * d) from (N * f, d) and (f, f): the other half of the Kronecker product."""
    f, d = len(left), x.shape[1]
    return np.matmul(left.T, x.reshape(-1, f, d)).reshape(-1, f * d) if f > 1 else x


@functools.cache
def _panels(dim: int) -> np.ndarray:
    from colsearcher.indexes.kernels.product import panels_of

    return panels_of(_factors(dim)[1])


@functools.cache
def _factors(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two orthogonal matrices, (f, f) and (dim / f, dim / f), whose Kronecker product is the rotation."""
    inner = dim if dim <= _DENSE else max(f for f in range(1, _DENSE + 1) if dim % f == 0)
    return _orthogonal(dim // inner, 1), _orthogonal(inner, 2)


def _orthogonal(n: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix, the same on every machine but for rounding."""
    q, r = np.linalg.qr(np.random.Generator(np.random.PCG64(seed)).normal(size=(n, n)))
    return (q * np.sign(np.diag(r))).astype(np.float32)
