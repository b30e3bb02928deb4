"""Products of many rows with one matrix, compiled: on one processor, while a model has the others, and row by row.

A row of the product depends on its row and the matrix alone, not on what is multiplied with it, as it does in a library that
shares a product out to threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from colsearcher.indexes.kernels.vector_ops import PANEL, PANEL_ROWS, multiply_rows

_compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy")


def panels_of(matrix_K_D: np.ndarray) -> np.ndarray:
    """(ceil(D / PANEL), K, PANEL) float32: a matrix as `multiply` takes it, its last columns zero."""
    depth, dim = matrix_K_D.shape
    wide = np.zeros((depth, -(-dim // PANEL) * PANEL), dtype=np.float32)
    wide[:, :dim] = matrix_K_D
    return np.ascontiguousarray(wide.reshape(depth, -1, PANEL).transpose(1, 0, 2))


def multiply(rows_N_K: np.ndarray, panels: np.ndarray, dim: int) -> np.ndarray:
    """(N, dim) float32: float32 rows times a matrix with `dim` columns, cut up by `panels_of`."""
    product = np.empty((len(rows_N_K), dim), dtype=np.float32)
    _multiply(np.ascontiguousarray(rows_N_K, dtype=np.float32), panels, product)
    return product


@_compiled
def _multiply(rows_N_K: np.ndarray, panels: np.ndarray, product_N_D: np.ndarray) -> None:
    n, depth = rows_N_K.shape
    dim = product_N_D.shape[1]
    few = np.zeros((PANEL_ROWS, depth), dtype=np.float32)
    tile = np.empty((PANEL_ROWS, PANEL), dtype=np.float32)
    whole = n // PANEL_ROWS * PANEL_ROWS
    few[: n - whole] = rows_N_K[whole:]
    for p in range(len(panels)):
        panel = panels[p].ctypes.data
        left = p * PANEL
        columns = min(PANEL, dim - left)
        for start in range(0, n, PANEL_ROWS):
            rows = rows_N_K[start:].ctypes.data if start < whole else few.ctypes.data
            if columns == PANEL and start < whole:
                multiply_rows(rows, 4 * depth, panel, depth, product_N_D[start:, left:].ctypes.data, 4 * dim)
            else:
                multiply_rows(rows, 4 * depth, panel, depth, tile.ctypes.data, 4 * PANEL)
                count = min(PANEL_ROWS, n - start)
                product_N_D[start : start + count, left : left + columns] = tile[:count, :columns]
