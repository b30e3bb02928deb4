"""How queries are cut for the kernels of `triton_scan`: into two digits a component, and into tiles that fit a GPU's memory.

What this file leaves out: how pages are cut (`gpu_plan`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from colsearcher.indexes.codecs import Codec
from colsearcher.indexes.maxsim import QueryBatch
from colsearcher.indexes.rotation import rotate

# Largest query digit pair, 127 · 256, and the scale that float16 digits are brought to.
_LARGEST = 32_512
_HALF_EXPONENT = 10
# Shared memory that a program should stay below, so that two share a processor, and what a Hopper card lends at most.
_PROGRAM_BYTES = 104 * 1024
_HOPPER_BYTES = 232_448
_REDUCTION_BYTES = 4_096


@dataclass(frozen=True)
class Launch:
    """How the first kernel runs: rows of a tile, warps of a program, tiles whose loads are under way at once."""

    rows: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tiling:
    """How codes and queries are cut for the first kernel.

    Attributes:
        bits, columns: of the codes.
        vectors: query vectors of a tile: 16, 32 or 64.
        depth, chunks: columns of the codes that are multiplied at a time, and how many times that is.
        resident: whether a program keeps the digits of its query vectors in shared memory, or loads them with every chunk.
    """

    bits: int
    columns: int
    vectors: int
    depth: int
    chunks: int
    resident: bool

    @property
    def planes(self) -> int:
        """Components in a column."""
        return max(8 // self.bits, 1)

    def bytes_held(self) -> int:
        """Shared memory for digits that stay."""
        return self._digit_bytes * self.chunks if self.resident else 0

    def bytes_loaded(self, rows: int) -> int:
        """Shared memory for what one step loads, with tiles of `rows` rows."""
        codes = self._item_bytes * rows * self.depth
        return codes * self.chunks if self.resident else codes + self._digit_bytes

    @property
    def _item_bytes(self) -> int:
        return 2 if self.bits == 16 else 1

    @property
    def _digit_bytes(self) -> int:
        return self._item_bytes * self.planes * self.depth * 2 * self.vectors


def choose_tiling(codec: Codec, dim: int, count: int, device: torch.device) -> Tiling:
    """Large tiles for `count` query vectors of `dim` components, with room for three tiles of 64 rows.

    >>> choose_tiling(Codec("fp16", 16), 384, 20, torch.device("cpu"))
    Tiling(bits=16, columns=384, vectors=32, depth=128, chunks=3, resident=True)
    >>> choose_tiling(Codec("1bit", 1), 4096, 20, torch.device("cpu"))
    Tiling(bits=1, columns=512, vectors=32, depth=32, chunks=16, resident=False)
    """
    bits, columns = codec.bits, codec.code_columns(dim)
    vectors = 16 if count <= 16 else 32 if count <= 32 else 64
    while True:
        for resident in (True, False):
            smallest, largest = 16 if bits == 16 else 32, 128 if resident else min(128, 32 * bits)
            depths = [depth for depth in (128, 64, 32, 16) if smallest <= depth <= largest]
            # Few chunks, but not many more products than columns ask for.
            padded = {depth: -(-columns // depth) * depth for depth in depths}
            depth = next(depth for depth in depths if padded[depth] <= 1.15 * min(padded.values()))
            tiling = Tiling(bits, columns, vectors, depth, -(-columns // depth), resident)
            if tiling.bytes_held() + 3 * tiling.bytes_loaded(64) <= _shared_memory(device) or (vectors == 16 and not resident):
                return tiling
        vectors //= 2


def _shared_memory(device: torch.device) -> int:
    """Bytes that a program may use, less than which the kernel's reductions need."""
    if device.type == "cpu":
        return _HOPPER_BYTES - _REDUCTION_BYTES
    index = torch.cuda.current_device() if device.index is None else device.index
    import triton

    return triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"] - _REDUCTION_BYTES


def launches(tiling: Tiling, device: torch.device) -> list[Launch]:
    """Launches that fit the device, the one to take untried first: tiles of 64 or 128 rows, 32 only where they must be."""
    shapes = [(64, 4), (128, 8)]
    if tiling.vectors <= 32:
        # With more query vectors the sums of 128 rows do not fit the registers of 4 warps.
        shapes.insert(0 if tiling.bits < 8 or not tiling.resident else 1, (128, 4))
    found: list[Launch] = []
    for rows, warps in (*shapes, (32, 4)):
        wanted = min(max((_PROGRAM_BYTES - tiling.bytes_held()) // tiling.bytes_loaded(rows), 3), 6)
        stages = min((_shared_memory(device) - tiling.bytes_held()) // tiling.bytes_loaded(rows), wanted)
        if stages >= 2 and (rows > 32 or not found):
            found.append(Launch(rows, warps, stages))
    return found


@dataclass(frozen=True)
class QueryTiles:
    """Queries as the kernels read them, on the device.

    Attributes:
        digits: (chunks · planes, 2 · padded, depth) float16 or int8; rows 2t and 2t + 1 are the two digits of query vector t,
            zero beyond the last one.
        offsets: (padded,) float32, taken from the sums of products of a code's u, which stand for c = 2u - top.
        weights: (T,) float32, the weights times what a unit of the kernel's sums is worth.
        bounds: (Q + 1,) int32, the vectors of each query.
        padded: T rounded up to whole tiles, at least one.
        wide: whether the digits' sums are joined in float32, because they could overflow 32 bits.
    """

    tiling: Tiling
    digits: torch.Tensor
    offsets: torch.Tensor
    weights: torch.Tensor
    bounds: torch.Tensor
    padded: int
    wide: bool


def tile_queries(queries: QueryBatch, codec: Codec, device: torch.device) -> QueryTiles:
    """Rotate, split into digits, cut as the codes are, and copy to the device.

    Where pages are float16, a query vector q of D components becomes (high + low) / 2^e, two float16 numbers. An inner product
    with a stored vector x is then off by at most 2⁻²³ · (D + 4) · ‖q‖ · ‖x‖, sums that tensor cores truncate included. Where
    codes are whole numbers, the rotated q becomes s · (256 · high + low), two digits of 8 bits, s = max|q| / 32,512; that is
    off by at most √D · max|q| · ‖x‖ / 65,024 and, for rounding the sum to float32, 2⁻²² · 2^bits · ‖q‖ · ‖x‖.
    """
    vectors_T_D = queries.vectors_T_D.astype(np.float32, copy=False)
    if codec.rotates:
        # One by one: how a product of matrices rounds depends on their sizes.
        vectors_T_D = np.concatenate([rotate(part) for part in np.split(vectors_T_D, queries.offsets_Q[1:-1])])
    count, dim = vectors_T_D.shape
    tiling = choose_tiling(codec, dim, count, device)
    padded = max(-(-count // tiling.vectors), 1) * tiling.vectors
    largest_T = np.abs(vectors_T_D).max(axis=1, initial=0).astype(np.float64)
    largest_T[largest_T == 0] = 1
    offsets = np.zeros(padded, dtype=np.float32)
    pairs = np.zeros((padded, 2, dim), dtype=np.float16 if codec.bits == 16 else np.int8)
    if codec.bits == 16:
        exponent_T = _HALF_EXPONENT - np.frexp(largest_T)[1]
        unit_T = np.ldexp(1.0, -exponent_T)
        scaled = np.ldexp(vectors_T_D, exponent_T[:, None])
        pairs[:count, 0] = scaled
        pairs[:count, 1] = scaled - pairs[:count, 0].astype(np.float32)
    else:
        unit_T = largest_T / _LARGEST
        whole = np.rint(vectors_T_D / unit_T[:, None]).astype(np.int32)
        pairs[:count, 0] = (whole + 128) >> 8
        pairs[:count, 1] = whole - 256 * pairs[:count, 0].astype(np.int32)
        if codec.bits < 8:
            offsets[:count] = whole.sum(axis=1, dtype=np.int64) * ((1 << codec.bits) - 1) / 2
            unit_T *= 2
    by_plane = np.zeros((tiling.planes, 2 * padded, tiling.chunks * tiling.depth), dtype=pairs.dtype)
    for plane in range(tiling.planes):
        part = pairs.reshape(2 * padded, dim)[:, plane * tiling.columns : (plane + 1) * tiling.columns]
        by_plane[plane, :, : part.shape[1]] = part
    pieces = by_plane.reshape(tiling.planes, 2 * padded, tiling.chunks, tiling.depth).transpose(2, 0, 1, 3)
    return QueryTiles(
        tiling,
        torch.from_numpy(np.ascontiguousarray(pieces.reshape(-1, 2 * padded, tiling.depth))).to(device),
        torch.from_numpy(offsets).to(device),
        torch.from_numpy((queries.weights_T * unit_T).astype(np.float32)).to(device),
        torch.from_numpy(queries.offsets_Q.astype(np.int32)).to(device),
        padded,
        wide=codec.bits < 16 and dim * _LARGEST * (127 if codec.bits == 8 else (1 << codec.bits) - 1) >= 2**31,
    )
