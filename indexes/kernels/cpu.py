"""MaxSim of many pages on all cores: the query made ready once, the pages cut into tasks."""

from __future__ import annotations

import functools
import itertools
import os
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
# so that a core that is held up holds up little.
_TASKS_PER_CORE, _LEAST_ROWS, _MOST_ROWS = 4, 2_048, 262_144


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
    pages_4_P = np.concatenate([np.empty((4, 0), dtype=np.int64), *(segment.in_memory for segment in segments)], axis=1)
    scores_P_Q = np.empty((pages_4_P.shape[1], len(queries.offsets_Q) - 1))
    ends = np.cumsum(pages_4_P[2])
    columns = segments[0].encoded.codes.shape[1] if segments else 0
    total_rows = int(ends[-1]) if len(ends) else 0
    cores = len(os.sched_getaffinity(0)) if total_rows > _LEAST_ROWS else 1
    task_rows = min(max(_LEAST_ROWS, total_rows // (_TASKS_PER_CORE * cores)), _MOST_ROWS)
    cuts = np.unique([0, *np.searchsorted(ends, np.arange(task_rows, total_rows, task_rows)), len(ends)]).tolist()
    tasks = [
        functools.partial(
            _score,
            pages_4_P[:, first:last],
            columns,
            codec,
            prepared,
            queries.offsets_Q,
            block_rows,
            tiles,
            scores_P_Q[first:last],
        )
        for first, last in itertools.pairwise(cuts)
    ]
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
    pages_4_P: np.ndarray,
    columns: int,
    codec: Codec,
    prepared: _Prepared,
    offsets_Q: np.ndarray,
    block_rows: int,
    tiles: bool,
    scores_P_Q: np.ndarray,
) -> None:
    codes_P, factors_P, rows_P, readable_P = pages_4_P
    query, initial, result = prepared.packed, prepared.initial_T, (prepared.weights_T, offsets_Q, scores_P_Q)
    shape, config = (block_rows, columns), tile_ops.TILE_CONFIG
    if not tiles:
        loops.score_any(codes_P, factors_P, rows_P, *shape, codec.bits, query, initial, *result)
    elif codec.bits == 16:
        loops.score_tiles_halves(codes_P, rows_P, *shape, query, *result, config)
    else:
        loops.score_tiles_codes(codes_P, factors_P, rows_P, readable_P, *shape, codec.bits, query, initial, *result, config)


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
    whole = _even_rows(vectors_T_D / steps_T[:, None]) if codec.bits < 8 else np.rint(vectors_T_D / steps_T[:, None])
    whole = whole.astype(np.int8)
    packed = whole.reshape(-1, LANES, whole.shape[1] // 64, 16, 4).transpose(0, 2, 3, 1, 4)
    initial_T = np.rint(-middle * whole.sum(1, dtype=np.int64)).astype(np.int32)
    return _Prepared(_aligned(packed).reshape(*packed.shape[:3], 64), _aligned(initial_T), weights_T * steps_T * gain)


def _even_rows(values_T_D: np.ndarray) -> np.ndarray:
    """Rounded to whole numbers from -127 to 127 whose sum in every row is even, for it is taken times half an odd number.

    >>> _even_rows(np.array([[3.0, 1.4, 0.9], [3.0, 1.4, 2.1]])).tolist()
    [[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]]
    """
    whole = np.rint(values_T_D)
    rest = values_T_D - whole
    odd = np.flatnonzero(whole.sum(1) % 2)
    worst = np.abs(rest[odd]).argmax(1)
    down = (rest[odd, worst] < 0) | (whole[odd, worst] >= 127)
    whole[odd, worst] += np.where(down, -1, 1)
    return whole


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
