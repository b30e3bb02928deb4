"""MaxSim of many pages on all cores: the query made ready once, the pages cut into tasks."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from colsearcher.indexes.codecs import Codec
from colsearcher.indexes.kernels import loops, tile_ops
from colsearcher.indexes.kernels.vector_ops import LANES
from colsearcher.indexes.maxsim import PageRows, QueryBatch
from colsearcher.indexes.rotation import rotate

# Tasks for each core, so that the work is shared evenly; the least rows of one, so that starting it is nothing, and the most,
# so that its maxima stay in the cache.
_TASKS_PER_CORE, _LEAST_ROWS, _MOST_ROWS = 4, 2_048, 65_536

_lender = threading.local()


@dataclass(frozen=True)
class _Prepared:
    """A query batch in the layout of one of the loops; `weights_T` include the scale that the loop leaves out."""

    packed: np.ndarray
    initial_T: np.ndarray
    weights_T: np.ndarray


def scan(
    segments: Sequence[PageRows], codec: Codec, queries: QueryBatch, block_rows: int = 0, *, tiles: bool = True
) -> np.ndarray:
    """The score of every page for every query, computed from the stored codes.

    The sum of float16 pages is that of float32 arithmetic to within 5e-5 where weights sum to 1. Codes are multiplied with
    the query in 8 bits on tiles (an error of some 1e-4, far below that of the codes) and in float32 elsewhere.

    Args:
        segments: the pages, each with at least one row.
        codec: how the pages are stored.
        queries: see `QueryBatch`.
        block_rows: rows of a block of a passage, 0 for whole pages.
        tiles: whether the processor's matrix tiles may be used, where it has them.

    Returns:
        (pages of all segments in order, Q) float64.
    """
    tiles = tiles and tile_ops.available()
    prepare = _prepare_any if not tiles else _prepare_halves if codec.bits == 16 else _prepare_codes
    prepared = prepare(codec, queries)
    scores_P_Q = np.empty((sum(len(segment.starts_P) for segment in segments), len(queries.offsets_Q) - 1))
    tasks: list[Callable[[], None]] = []
    cores = len(os.sched_getaffinity(0))
    total_rows = sum(int(segment.rows_P.sum()) for segment in segments)
    task_rows = min(max(_LEAST_ROWS, total_rows // (_TASKS_PER_CORE * cores)), _MOST_ROWS)
    done = 0
    for segment in segments:
        ends = np.cumsum(segment.rows_P)
        cuts = np.unique(np.searchsorted(ends, np.arange(task_rows, ends[-1] if len(ends) else 0, task_rows)))
        for first, last in zip([0, *cuts], [*cuts, len(ends)], strict=True):
            part = slice(int(first), int(last))
            target = scores_P_Q[done + part.start : done + part.stop]
            tasks.append(
                functools.partial(_score, segment, part, codec, prepared, queries.offsets_Q, block_rows, tiles, target)
            )
        done += len(segment.starts_P)
    if total_rows <= _LEAST_ROWS:
        cores = 1
    pending = iter(tasks)
    helpers = [_helpers().submit(_run_all, pending) for _ in range(min(cores, len(tasks)) - 1)]
    _run_all(pending)
    for helper in helpers:
        if not helper.cancel():  # one that has not begun, for it helps another search, has nothing left to do
            helper.result()
    return scores_P_Q


def _run_all(pending: Iterator[Callable[[], None]]) -> None:
    """Run the tasks that no other thread has taken: the iterator of a list gives each to one."""
    for task in pending:
        task()


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(len(os.sched_getaffinity(0)) - 1, 1), thread_name_prefix="maxsim")


def _score(
    segment: PageRows,
    part: slice,
    codec: Codec,
    prepared: _Prepared,
    offsets_Q: np.ndarray,
    block_rows: int,
    tiles: bool,
    scores_P_Q: np.ndarray,
) -> None:
    rows_P = segment.rows_P[part]
    starts_B, rows_B, blocks_P = cut_blocks(segment.starts_P[part], rows_P, block_rows)
    best_B_T = _lent((len(starts_B), len(prepared.weights_T)))
    best_B_T.fill(-np.inf)
    codes, factors = segment.encoded.codes, segment.encoded.factors
    stored, columns = codes.shape
    at, factors_at = codes.ctypes.data, factors.ctypes.data
    blocks, query, initial = (starts_B, rows_B), prepared.packed, prepared.initial_T
    if not tiles:
        loops.maxima_any(at, factors_at, columns, codec.bits, *blocks, query, initial, best_B_T)
    elif codec.bits == 16:
        loops.maxima_tiles_halves(at, columns, *blocks, query, best_B_T, tile_ops.TILE_CONFIG)
    else:
        loops.maxima_tiles_codes(
            at, stored, factors_at, columns, codec.bits, *blocks, query, initial, best_B_T, tile_ops.TILE_CONFIG
        )
    loops.best_passages(best_B_T, blocks_P, prepared.weights_T, offsets_Q, scores_P_Q)


def _lent(shape: tuple[int, int]) -> np.ndarray:
    """A float32 array that this thread lends to one task after the other: new memory costs more to get than to use."""
    size = shape[0] * shape[1]
    if len(getattr(_lender, "floats", ())) < size:
        _lender.floats = _aligned(np.empty(size, dtype=np.float32))
    return _lender.floats[:size].reshape(shape)


def cut_blocks(starts_P: np.ndarray, rows_P: np.ndarray, block_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First row and number of rows of every block of every page, in order, and the number of blocks of each page.

    >>> [x.tolist() for x in cut_blocks(np.array([0, 10]), np.array([5, 2]), 4)]
    [[0, 4, 10], [4, 1, 2], [2, 1]]
    """
    if not block_rows:
        return starts_P, rows_P, np.ones(len(rows_P), dtype=np.int64)
    blocks_P = -(-rows_P // block_rows)
    owner_B = np.repeat(np.arange(len(rows_P)), blocks_P)
    before_B = (np.arange(len(owner_B)) - np.repeat(np.cumsum(blocks_P) - blocks_P, blocks_P)) * block_rows
    return starts_P[owner_B] + before_B, np.minimum(rows_P[owner_B] - before_B, block_rows), blocks_P


def _padded(codec: Codec, queries: QueryBatch, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The query vectors as the codes see them, (T, D) float32 with D a multiple of `depth` and T of 2 LANES; their weights."""
    vectors = rotate(queries.vectors_T_D) if codec.rotates else queries.vectors_T_D
    count, dim = vectors.shape
    total = -(-count // (2 * LANES)) * 2 * LANES
    vectors_T_D = np.zeros((total, -(-dim // depth) * depth), dtype=np.float32)
    vectors_T_D[:count, :dim] = vectors
    weights_T = np.zeros(total)
    weights_T[:count] = queries.weights_T
    return vectors_T_D, weights_T


def _grid(codec: Codec) -> tuple[float, float]:
    """A stored number u stands for gain · (u - middle)."""
    return (1.0, 0.0) if codec.bits >= 8 else (2.0, ((1 << codec.bits) - 1) / 2)


def _prepare_any(codec: Codec, queries: QueryBatch) -> _Prepared:
    vectors_T_D, weights_T = _padded(codec, queries, LANES)
    gain, middle = _grid(codec)
    packed = _aligned(vectors_T_D.reshape(-1, LANES, vectors_T_D.shape[1]).transpose(0, 2, 1))
    return _Prepared(packed, -middle * vectors_T_D.sum(1), weights_T * gain)


def _prepare_codes(codec: Codec, queries: QueryBatch) -> _Prepared:
    vectors_T_D, weights_T = _padded(codec, queries, 64)
    gain, middle = _grid(codec)
    steps_T = np.maximum(np.abs(vectors_T_D).max(1), 1e-30) / 127
    whole = np.rint(vectors_T_D / steps_T[:, None]).astype(np.int8)
    packed = whole.reshape(-1, LANES, whole.shape[1] // 64, 16, 4).transpose(0, 2, 3, 1, 4)
    # Half a step lost where the sum is odd: the same for all rows of the index but for their factors, and less than 1e-4.
    initial_T = np.rint(-middle * whole.sum(1, dtype=np.int64)).astype(np.int32)
    return _Prepared(_aligned(packed).reshape(*packed.shape[:3], 64), _aligned(initial_T), weights_T * steps_T * gain)


def _prepare_halves(codec: Codec, queries: QueryBatch) -> _Prepared:
    vectors_T_D, weights_T = _padded(codec, queries, 32)
    high = _bfloat(vectors_T_D)
    low = _bfloat(vectors_T_D - (high.astype(np.uint32) << 16).view(np.float32))
    tiles = [part.reshape(-1, LANES, part.shape[1] // 32, 2, 16).transpose(0, 2, 4, 1, 3) for part in (high, low)]
    packed = _aligned(np.stack(tiles))
    return _Prepared(packed.reshape(*packed.shape[:4], 32), np.empty(0, dtype=np.float32), weights_T)


def _bfloat(values: np.ndarray) -> np.ndarray:
    """The bits of float32 numbers rounded to bfloat16, to nearest even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _aligned(values: np.ndarray) -> np.ndarray:
    """The same numbers, contiguous and at the start of a cache line, which a row of a tile then does not cross."""
    buffer = np.empty(values.nbytes + 64, dtype=np.uint8)
    start = -buffer.ctypes.data % 64
    copy = buffer[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy
