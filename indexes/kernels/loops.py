"""The score of pages for queries, straight from stored codes; compiled.

Three forms of the same loop: float32 on any processor, and on matrix tiles int8 for codes and bfloat16 pairs for float16.
Each takes, for a row and a query vector, (initial + sum) · factor, where the sum is over the stored numbers; the best of a
block of rows is kept, and a page's score is that of its best two neighbouring blocks (`maxsim`). What is the same for all rows
(the query's own scale) is in the weights. A value depends on its row and its query vector and on nothing beside them, so
scores do not change with the batch. Query vectors come in pairs of groups of 16.

A page is where its codes and its factors lie, addresses in bytes, and its number of rows, at least 1.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from colsearcher.indexes.kernels.tile_ops import (
    clear_tile,
    load_tile,
    load_tile_config,
    multiply_bfloat,
    multiply_signed,
    multiply_unsigned,
    release_tiles,
    store_tile,
)
from colsearcher.indexes.kernels.vector_ops import (
    copy_bytes,
    dot_four_rows,
    fetch_ahead,
    fold_maxima,
    split_halves,
    unpack_planes,
    unpack_short_rows,
    widen_bytes,
    widen_halves,
)

TILE = 16  # rows of a tile
GROUP = 32  # rows that are multiplied at a time: two tiles hide each other's latency
AHEAD = 4 * GROUP  # rows that are asked for before they are read
_compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def _line(address: int) -> int:
    """The next start of a cache line. A row of a tile that crosses one takes twice the time to load and to store."""
    return (address + 63) // 64 * 64


@_compiled
def _unpack_rows(source: int, target: int, rows: int, columns: int, stride: int, bits: int) -> None:
    """Rows of codes of 4, 2 or 1 bits to one byte for each component, `stride` bytes apart."""
    if bits == 2 and columns == 32:
        unpack_short_rows(source, target, rows, stride, 2, 32)
    elif bits == 1 and columns == 16:
        unpack_short_rows(source, target, rows, stride, 1, 16)
    elif bits == 4 and columns % 64 == 0:
        unpack_planes(source, target, rows, columns, stride, 4, 64)
    elif bits == 4 and columns % 16 == 0:
        unpack_planes(source, target, rows, columns, stride, 4, 16)
    elif bits == 4:
        unpack_planes(source, target, rows, columns, stride, 4, 1)
    elif bits == 2 and columns % 32 == 0:
        unpack_planes(source, target, rows, columns, stride, 2, 32)
    elif bits == 2:
        unpack_planes(source, target, rows, columns, stride, 2, 1)
    elif columns % 16 == 0:
        unpack_planes(source, target, rows, columns, stride, 1, 16)
    else:
        unpack_planes(source, target, rows, columns, stride, 1, 1)


@_compiled
def _read_factors(factors: int, rows: int, narrow: int, wide: int) -> None:
    """The float16 factors of a group of rows as float32; `narrow` and `wide` have room for a whole group."""
    copy_bytes(factors, narrow, rows * 2)
    widen_halves(narrow, wide, rows)


@_compiled
def _blocks(rows: int, block_rows: int) -> int:
    """How many blocks a page of so many rows has."""
    return (rows + block_rows - 1) // block_rows if block_rows else 1


@_compiled
def _empty_blocks(rows_P: np.ndarray, block_rows: int, columns: int) -> np.ndarray:
    """Room for the maxima of every block of the longest page."""
    most = 1
    for rows in rows_P:
        most = max(most, _blocks(rows, block_rows))
    return np.empty((most, columns), dtype=np.float32)


@_compiled
def _next_group(first: int, rows: int, block_rows: int) -> tuple[int, int]:
    """The block of a page's row and how many rows from there on are multiplied at a time: those of a block."""
    if not block_rows:
        return 0, min(GROUP, rows - first)
    block = first // block_rows
    return block, min(GROUP, min((block + 1) * block_rows, rows) - first)


@_compiled
def _add_up(best_B_T: np.ndarray, last: int, weights_T: np.ndarray, offsets_Q: np.ndarray, scores_Q: np.ndarray) -> None:
    """For each query the best pair of neighbouring blocks, up to the block `last`, or the only block."""
    for query in range(len(scores_Q)):
        best = -np.inf
        for block in range(max(last, 1)):
            following = min(block + 1, last)
            total = 0.0
            for t in range(offsets_Q[query], offsets_Q[query + 1]):
                total += weights_T[t] * max(best_B_T[block, t], best_B_T[following, t])
            best = max(best, total)
        scores_Q[query] = best


@_compiled
def score_any(
    codes_P: np.ndarray,
    factors_P: np.ndarray,
    rows_P: np.ndarray,
    block_rows: int,
    columns: int,
    bits: int,
    query_G_D_L: np.ndarray,
    initial_T: np.ndarray,
    weights_T: np.ndarray,
    offsets_Q: np.ndarray,
    scores_P_Q: np.ndarray,
) -> None:
    """On any processor. `query_G_D_L` holds groups of 16 query vectors, (groups, depth, 16) float32, depth a multiple of 16."""
    groups, depth, lanes = query_G_D_L.shape
    row_bytes = columns * 2 if bits == 16 else columns
    wide_stride = (depth + lanes) * 4
    workspace = np.zeros(GROUP * (wide_stride + 8 * lanes + 4) + depth * 2 + 128, dtype=np.uint8)
    wide_at = _line(workspace.ctypes.data)
    sums_at = wide_at + GROUP * wide_stride
    scales_at = sums_at + GROUP * 8 * lanes
    narrow_at = scales_at + GROUP * 4
    best_B_T = _empty_blocks(rows_P, block_rows, groups * lanes)
    query_at, initial_at, best_at = query_G_D_L.ctypes.data, initial_T.ctypes.data, best_B_T.ctypes.data
    for page in range(len(rows_P)):
        best_B_T[: _blocks(rows_P[page], block_rows)] = -np.inf
        first = 0
        while first < rows_P[page]:
            block, rows = _next_group(first, rows_P[page], block_rows)
            for i in range(rows):
                source = codes_P[page] + (first + i) * row_bytes
                target = wide_at + i * wide_stride
                if bits < 8:
                    _unpack_rows(source, narrow_at, 1, columns, 0, bits)
                    widen_bytes(narrow_at, target, depth, False)
                elif bits == 8:
                    copy_bytes(source, narrow_at, row_bytes)
                    widen_bytes(narrow_at, target, depth, True)
                else:
                    copy_bytes(source, narrow_at, row_bytes)
                    widen_halves(narrow_at, target, depth)
            if bits < 16:
                _read_factors(factors_P[page] + first * 2, rows, narrow_at, scales_at)
            for group in range(0, groups, 2):
                for side in range(2):
                    query = query_at + (group + side) * depth * lanes * 4
                    initial = initial_at + (group + side) * lanes * 4
                    for i in range(0, rows, 4):
                        sums_row = sums_at + (i * 2 + side) * lanes * 4
                        dot_four_rows(wide_at + i * wide_stride, wide_stride, query, depth, initial, sums_row, lanes * 8)
                best = best_at + (block * groups + group) * lanes * 4
                if bits == 16:
                    fold_maxima(sums_at, lanes * 8, 0, rows, best, False, False)
                else:
                    fold_maxima(sums_at, lanes * 8, scales_at, rows, best, False, True)
            first += rows
        _add_up(best_B_T, block, weights_T, offsets_Q, scores_P_Q[page])
    workspace[0] = 0  # numba frees an array after its last use, which this is


@_compiled
def score_tiles_codes(
    codes_P: np.ndarray,
    factors_P: np.ndarray,
    rows_P: np.ndarray,
    readable_P: np.ndarray,
    block_rows: int,
    columns: int,
    bits: int,
    query_G_K_R_C: np.ndarray,
    initial_T: np.ndarray,
    weights_T: np.ndarray,
    offsets_Q: np.ndarray,
    scores_P_Q: np.ndarray,
    config: np.ndarray,
) -> None:
    """Codes of 8 bits and fewer on tiles.

    `query_G_K_R_C` holds groups of 16 query vectors as int8 tiles, (groups, depth / 64, 16, 64): row r of a tile has, for
    each vector, its four components from 64k + 4r on. `initial_T` is int32. `readable_P` is how many rows of codes may be read
    from a page's first on: a tile is read whole.
    """
    groups, depth_tiles = query_G_K_R_C.shape[:2]
    stride = depth_tiles * 64
    workspace = np.zeros(GROUP * (stride + 128 + 4 + 2) + 64, dtype=np.uint8)
    scratch_at = _line(workspace.ctypes.data)
    sums_at = scratch_at + GROUP * stride
    scales_at = sums_at + GROUP * 128
    halves_at = scales_at + GROUP * 4
    best_B_T = _empty_blocks(rows_P, block_rows, groups * TILE)
    query_at, initial_at, best_at = query_G_K_R_C.ctypes.data, initial_T.ctypes.data, best_B_T.ctypes.data
    load_tile_config(config.ctypes.data)
    for page in range(len(rows_P)):
        best_B_T[: _blocks(rows_P[page], block_rows)] = -np.inf
        first = 0
        while first < rows_P[page]:
            block, rows = _next_group(first, rows_P[page], block_rows)
            left = codes_P[page] + first * columns
            fetch_ahead(left + AHEAD * columns, GROUP * columns)
            if bits < 8:
                _unpack_rows(left, scratch_at, rows, columns, stride, bits)
                left = scratch_at
            elif columns < stride or first + GROUP > readable_P[page]:
                for i in range(rows):
                    copy_bytes(left + i * columns, scratch_at + i * stride, columns)
                left = scratch_at
            _read_factors(factors_P[page] + first * 2, rows, halves_at, scales_at)
            for group in range(0, groups, 2):
                right = query_at + group * stride * 16
                initial = initial_at + group * 64
                load_tile(0, initial, 0)
                load_tile(1, initial + 64, 0)
                load_tile(2, initial, 0)
                load_tile(3, initial + 64, 0)
                for k in range(depth_tiles):
                    load_tile(4, left + k * 64, stride)
                    load_tile(6, right + k * 1024, 64)
                    load_tile(7, right + (depth_tiles + k) * 1024, 64)
                    if bits == 8:
                        multiply_signed(0, 4, 6)
                        multiply_signed(1, 4, 7)
                    else:
                        multiply_unsigned(0, 4, 6)
                        multiply_unsigned(1, 4, 7)
                    if rows > TILE:
                        load_tile(5, left + TILE * stride + k * 64, stride)
                        if bits == 8:
                            multiply_signed(2, 5, 6)
                            multiply_signed(3, 5, 7)
                        else:
                            multiply_unsigned(2, 5, 6)
                            multiply_unsigned(3, 5, 7)
                store_tile(0, sums_at, 128)
                store_tile(1, sums_at + 64, 128)
                if rows > TILE:
                    store_tile(2, sums_at + TILE * 128, 128)
                    store_tile(3, sums_at + TILE * 128 + 64, 128)
                fold_maxima(sums_at, 128, scales_at, rows, best_at + (block * groups + group) * 64, True, True)
            first += rows
        _add_up(best_B_T, block, weights_T, offsets_Q, scores_P_Q[page])
    release_tiles()
    workspace[0] = 0  # numba frees an array after its last use, which this is


@_compiled
def score_tiles_halves(
    vectors_P: np.ndarray,
    rows_P: np.ndarray,
    block_rows: int,
    columns: int,
    query_S_G_K_R_C: np.ndarray,
    weights_T: np.ndarray,
    offsets_Q: np.ndarray,
    scores_P_Q: np.ndarray,
    config: np.ndarray,
) -> None:
    """float16 on tiles, to float32's precision: both sides are cut into two bfloat16 parts, low · low is left out (2^-16).

    `query_S_G_K_R_C` holds the query's high and low parts as bfloat16 tiles, (2, groups, depth / 32, 16, 32): row r
    of a tile has, for each vector, its components 32k + r and 32k + 16 + r.
    """
    groups, depth_tiles = query_S_G_K_R_C.shape[1:3]
    stride = depth_tiles * 64
    workspace = np.zeros((2 * GROUP + 1) * stride + GROUP * 128 + 64, dtype=np.uint8)
    high = _line(workspace.ctypes.data)
    low = high + GROUP * stride
    padded_at = low + GROUP * stride
    sums_at = padded_at + stride
    best_B_T = _empty_blocks(rows_P, block_rows, groups * TILE)
    query_at, best_at = query_S_G_K_R_C.ctypes.data, best_B_T.ctypes.data
    low_query = groups * depth_tiles * 1024
    load_tile_config(config.ctypes.data)
    for page in range(len(rows_P)):
        best_B_T[: _blocks(rows_P[page], block_rows)] = -np.inf
        first = 0
        while first < rows_P[page]:
            block, rows = _next_group(first, rows_P[page], block_rows)
            for i in range(rows):
                source = vectors_P[page] + (first + i) * columns * 2
                if columns * 2 < stride:
                    copy_bytes(source, padded_at, columns * 2)
                    source = padded_at
                split_halves(source, high + i * stride, low + i * stride, depth_tiles)
            for group in range(0, groups, 2):
                right = query_at + group * depth_tiles * 1024
                clear_tile(0)
                clear_tile(1)
                clear_tile(2)
                clear_tile(3)
                for k in range(depth_tiles):
                    near, far = right + k * 1024, right + (depth_tiles + k) * 1024
                    load_tile(4, high + k * 64, stride)
                    load_tile(5, low + k * 64, stride)
                    load_tile(6, near, 64)
                    load_tile(7, far, 64)
                    multiply_bfloat(0, 4, 6)
                    multiply_bfloat(1, 4, 7)
                    multiply_bfloat(0, 5, 6)
                    multiply_bfloat(1, 5, 7)
                    if rows > TILE:
                        load_tile(4, high + TILE * stride + k * 64, stride)
                        load_tile(5, low + TILE * stride + k * 64, stride)
                        multiply_bfloat(2, 4, 6)
                        multiply_bfloat(3, 4, 7)
                        multiply_bfloat(2, 5, 6)
                        multiply_bfloat(3, 5, 7)
                        load_tile(6, near + low_query, 64)
                        load_tile(7, far + low_query, 64)
                        multiply_bfloat(2, 4, 6)
                        multiply_bfloat(3, 4, 7)
                        load_tile(4, high + k * 64, stride)
                    else:
                        load_tile(6, near + low_query, 64)
                        load_tile(7, far + low_query, 64)
                    multiply_bfloat(0, 4, 6)
                    multiply_bfloat(1, 4, 7)
                store_tile(0, sums_at, 128)
                store_tile(1, sums_at + 64, 128)
                if rows > TILE:
                    store_tile(2, sums_at + TILE * 128, 128)
                    store_tile(3, sums_at + TILE * 128 + 64, 128)
                fold_maxima(sums_at, 128, 0, rows, best_at + (block * groups + group) * 64, False, False)
            first += rows
        _add_up(best_B_T, block, weights_T, offsets_Q, scores_P_Q[page])
    release_tiles()
    workspace[0] = 0  # numba frees an array after its last use, which this is
