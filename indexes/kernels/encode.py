"""From float16 vectors to float32, and from rotated ones to the grids of `colsearcher.indexes.codecs`, compiled."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from colsearcher.indexes.kernels.vector_ops import LANES, widen_halves

# Half a grid step, in standard deviations of a component: the best for a Gaussian (Max 1960), tried times each stretch.
_HALF_STEPS = {1: 0.798, 2: 0.498, 4: 0.168}
_compiled: Any = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
_STRETCHES = np.array([0.82, 0.91, 1.0, 1.09, 1.18], dtype=np.float32)


def encode_levels(rotated_N_D: np.ndarray, bits: int, codes_N_B: np.ndarray, factors_N: np.ndarray) -> None:
    """Fill in the codes of 4, 2 or 1 bits and the factors of rotated float32 vectors."""
    _encode_levels(rotated_N_D, bits, np.float32(_HALF_STEPS[bits]), _STRETCHES, codes_N_B, factors_N)


def encode_int8(rotated_N_D: np.ndarray, codes_N_D: np.ndarray, factors_N: np.ndarray) -> None:
    """Fill in the codes of 8 bits and the factors of rotated float32 vectors."""
    _encode_int8(rotated_N_D, codes_N_D.view(np.int8), factors_N)


def widened(vectors_N_D: np.ndarray) -> np.ndarray:
    """A float32 copy of float16 vectors, which numpy makes number by number, or of others."""
    if vectors_N_D.dtype != np.float16:
        return vectors_N_D.astype(np.float32)
    source = np.ascontiguousarray(vectors_N_D).reshape(-1)
    target = np.empty(len(source), dtype=np.float32)
    whole = len(source) // LANES * LANES
    _widen(source.ctypes.data, target.ctypes.data, whole)
    target[whole:] = source[whole:]
    return target.reshape(vectors_N_D.shape)


@_compiled
def _widen(source: int, target: int, count: int) -> None:
    widen_halves(source, target, count)


@_compiled
def _encode_levels(
    rotated_N_D: np.ndarray, bits: int, half_step: float, stretches: np.ndarray, codes_N_B: np.ndarray, factors_N: np.ndarray
) -> None:
    n, dim = rotated_N_D.shape
    columns = codes_N_B.shape[1]
    top = np.float32((1 << (bits - 1)) - 1)
    middle = np.uint8(1 << (bits - 1))
    codes = np.zeros(columns * 8 // bits, dtype=np.uint8)
    for i in range(n):
        y = rotated_N_D[i]
        square = np.float32(0)
        for j in range(dim):
            square += y[j] * y[j]
        if square == 0:
            codes_N_B[i] = 0
            factors_N[i] = 0
            continue
        deviation = np.sqrt(square / np.float32(dim))
        best, best_inverse = np.float32(-1), np.float32(0)
        for stretch in stretches:
            inverse = np.float32(0.5) / (half_step * stretch * deviation)
            along, length = np.float32(0), np.float32(0)
            for j in range(dim):
                magnitude = np.abs(y[j])
                level = np.float32(2) * min(np.floor(magnitude * inverse), top) + np.float32(1)
                along += magnitude * level
                length += level * level
            if along * along > best * length:
                best, best_inverse = along * along / length, inverse
        along = np.float32(0)
        for j in range(dim):
            step = min(np.floor(np.abs(y[j]) * best_inverse), top)
            along += np.abs(y[j]) * (np.float32(2) * step + np.float32(1))
            steps = np.uint8(step)
            codes[j] = middle + steps if y[j] >= 0 else middle - np.uint8(1) - steps
        for b in range(columns):
            byte = np.uint8(0)
            for plane in range(8 // bits):
                byte |= codes[plane * columns + b] << np.uint8(plane * bits)
            codes_N_B[i, b] = byte
        factors_N[i] = square / along


@_compiled
def _encode_int8(rotated_N_D: np.ndarray, codes_N_D: np.ndarray, factors_N: np.ndarray) -> None:
    n, dim = rotated_N_D.shape
    for i in range(n):
        y = rotated_N_D[i]
        largest = np.float32(0)
        for j in range(dim):
            largest = max(largest, np.abs(y[j]))
        inverse = np.float32(127) / largest if largest > 0 else np.float32(0)
        along, square = np.float32(0), np.float32(0)
        for j in range(dim):
            level = np.rint(y[j] * inverse)
            codes_N_D[i, j] = np.int8(level)
            along += level * y[j]
            square += y[j] * y[j]
        factors_N[i] = square / along if along > 0 else np.float32(0)
