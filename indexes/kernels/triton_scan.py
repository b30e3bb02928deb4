"""MaxSim straight from the stored codes on a GPU, in Triton.

Pages are cut into *spans*: blocks of `block_rows` rows where passages are scored, else up to 2,048 rows, so that no page
keeps one program busy for long. One kernel writes each span's best inner product with each query vector; a second one takes the
best of a page's spans, or of its pairs of neighbouring blocks, and sums with the weights. No page has a launch of its own and
nothing is padded in memory: a tile that ends after its span reads that span's last row again, which is no traffic and changes
no maximum.

A long span walks through tiles of `ROWS` rows and keeps a running maximum of every cell in registers, so that reducing over
rows, which costs more than the products of a tile, happens once a span. Spans of at most 16 or 32 rows share a tile, each in
its *lane*; there is then one reduction a tile, and some of its products are of repeated rows. A program takes a run of tiles in
the order of memory, whatever pages they belong to: loads run ahead over the ends of pages.

Query vectors are stored as two digits, so that tensor cores give more than their own precision; see `tile_queries`. Products
of codes are sums of integers and exact; products of float16 are summed in float32, always along the same components together.
A page's score is therefore the same bits whatever else is scored.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

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
# Pages that a program of the second kernel sums, and query vectors at a time.
_SUM_PAGES, _SUM_VECTORS = 16, 32


@triton.constexpr_function
def _field_assembly(shift: int, bits: int) -> str:
    """PTX that takes one field out of each byte of a register."""
    return f"{{ .reg .b32 t; shr.u32 t, $1, {shift}; and.b32 $0, t, {((1 << bits) - 1) * 0x01010101}; }}"


@triton.jit
def _field(codes, shift: tl.constexpr, BITS: tl.constexpr, PACKED: tl.constexpr):
    """The whole numbers u of one plane, int8; four at a time where PACKED."""
    if BITS >= 8:
        level = codes
    elif PACKED:
        level = tl.inline_asm_elementwise(_field_assembly(shift, BITS), "=r,r", [codes], dtype=tl.int8, is_pure=True, pack=4)
    else:
        level = ((codes >> shift) & ((1 << BITS) - 1)).to(tl.int8)
    return level


@triton.jit
def _load_chunk(codes, row, chunk, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr):
    column = chunk * DEPTH + tl.arange(0, DEPTH)
    pointers = codes + row.to(tl.int64)[:, None] * COLUMNS + column[None, :]
    whole: tl.constexpr = COLUMNS == CHUNKS * DEPTH
    return tl.load(pointers, mask=None if whole else (column < COLUMNS)[None, :], other=None if whole else 0)


@triton.jit
def _load_digits(digits, piece, digit, vectors, DEPTH: tl.constexpr):
    """(DEPTH, 2 x VECTORS): the digits that meet one plane of one chunk."""
    return tl.load(digits + (piece * 2 * vectors + digit)[None, :] * DEPTH + tl.arange(0, DEPTH)[:, None])


@triton.jit
def _span_maxima(
    codes,
    factors,
    digits,
    offsets,
    starts,
    lasts,
    outs,
    programs,
    maxima,
    tiles_t,
    BITS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    ROWS: tl.constexpr,
    LANE_ROWS: tl.constexpr,
    VECTORS: tl.constexpr,
    RESIDENT: tl.constexpr,
    WIDE: tl.constexpr,
    PACKED: tl.constexpr,
):
    """maxima[outs[i]] = max over the rows of lane i's span, for VECTORS of the query vectors.

    What the next tile needs is loaded one tile ahead and carried, so that the loads of codes wait for no other load.
    """
    PLANES: tl.constexpr = 1 if BITS >= 8 else 8 // BITS
    LANES: tl.constexpr = ROWS // LANE_ROWS
    vectors = tiles_t * VECTORS
    # Programs that take the same tiles for other query vectors start together: the second one finds them in the cache.
    program = tl.program_id(0) // tiles_t
    first_vector = tl.program_id(0) % tiles_t * VECTORS
    first = tl.load(programs + program)
    end = tl.load(programs + program + 1)
    t = first_vector + tl.arange(0, VECTORS)
    digit = 2 * first_vector + tl.arange(0, 2 * VECTORS)
    held = ()
    if RESIDENT:
        for piece in tl.static_range(CHUNKS * PLANES):
            held = held + (_load_digits(digits, piece, digit, vectors, DEPTH),)  # type: ignore[assignment]  # noqa: RUF005
    if BITS < 8:
        offset = tl.load(offsets + t)[None, :]
    in_lane = tl.arange(0, ROWS) % LANE_ROWS
    lane = 0 if LANES == 1 else tl.arange(0, ROWS) // LANE_ROWS
    start = tl.load(starts + first * LANES + lane)
    last = tl.load(lasts + first * LANES + lane)
    if BITS < 16:
        factor = tl.load(factors + tl.minimum(start + in_lane, last))
    best = tl.full((ROWS, VECTORS), float("-inf"), tl.float32)
    for tile in range(first, end):
        row = tl.minimum(start + in_lane, last)
        done = start + ROWS > last
        start = tl.load(starts + (tile + 1) * LANES + lane)
        last = tl.load(lasts + (tile + 1) * LANES + lane)
        sums = tl.zeros((ROWS, 2 * VECTORS), tl.float32 if BITS == 16 else tl.int32)
        if RESIDENT:
            for chunk in tl.static_range(CHUNKS):
                block = _load_chunk(codes, row, chunk, COLUMNS, DEPTH, CHUNKS)
                for plane in tl.static_range(PLANES):
                    level = _field(block, plane * BITS, BITS, PACKED)
                    sums = tl.dot(level, held[chunk * PLANES + plane], sums, out_dtype=sums.dtype)
        else:
            for chunk in range(CHUNKS):
                block = _load_chunk(codes, row, chunk, COLUMNS, DEPTH, CHUNKS)
                for plane in tl.static_range(PLANES):
                    level = _field(block, plane * BITS, BITS, PACKED)
                    query = _load_digits(digits, chunk * PLANES + plane, digit, vectors, DEPTH)
                    sums = tl.dot(level, query, sums, out_dtype=sums.dtype)
        high, low = tl.split(tl.reshape(sums, (ROWS, VECTORS, 2)))
        if BITS == 16:
            value = high + low
        elif WIDE:
            value = high.to(tl.float32) * 256 + low.to(tl.float32)
        else:
            value = (high * 256 + low).to(tl.float32)
        if BITS < 8:
            value -= offset
        if BITS < 16:
            value *= factor.to(tl.float32)[:, None]
            factor = tl.load(factors + tl.minimum(start + in_lane, last))
        if LANES == 1:
            best = tl.maximum(best, value)
            if done:
                out = tl.load(outs + tile)
                tl.store(maxima + out * vectors + t, tl.max(best, axis=0))
                best = tl.full((ROWS, VECTORS), float("-inf"), tl.float32)
        else:
            top = tl.max(tl.reshape(value, (LANES, LANE_ROWS, VECTORS)), axis=1)
            out = tl.load(outs + tile * LANES + tl.arange(0, LANES))
            tl.store(maxima + out[:, None] * vectors + t[None, :], top, mask=(out >= 0)[:, None])


@triton.jit
def _page_scores(
    maxima,
    firsts,
    weights,
    bounds,
    scores,
    pages,
    vectors,
    queries,
    PAIRS: tl.constexpr,
    PAGES: tl.constexpr,
    VECTORS: tl.constexpr,
):
    """scores[p, q] for PAGES pages and one query; PAIRS: over pairs of neighbouring spans, else over all spans at once."""
    page = tl.program_id(0) * PAGES + tl.arange(0, PAGES)
    query = tl.program_id(1)
    inside = page < pages
    first = tl.load(firsts + page, mask=inside, other=0)
    end = tl.load(firsts + page + 1, mask=inside, other=1)
    begin_t = tl.load(bounds + query)
    end_t = tl.load(bounds + query + 1)
    if PAIRS:
        total = tl.full((PAGES,), float("-inf"), tl.float32)
        for i in range(tl.maximum(tl.max(end - first) - 1, 1)):
            left = tl.minimum(first + i, tl.maximum(end - 2, first))
            right = tl.minimum(left + 1, end - 1)
            passage = tl.zeros((PAGES,), tl.float32)
            for t0 in range(begin_t, end_t, VECTORS):
                t = t0 + tl.arange(0, VECTORS)
                live = t < end_t
                weight = tl.load(weights + t, mask=live, other=0.0)
                a = tl.load(maxima + left[:, None] * vectors + t[None, :], mask=live[None, :], other=0.0)
                b = tl.load(maxima + right[:, None] * vectors + t[None, :], mask=live[None, :], other=0.0)
                passage += tl.sum(tl.maximum(a, b) * weight[None, :], axis=1)
            total = tl.maximum(total, passage)
    else:
        total = tl.zeros((PAGES,), tl.float32)
        for t0 in range(begin_t, end_t, VECTORS):
            t = t0 + tl.arange(0, VECTORS)
            live = t < end_t
            weight = tl.load(weights + t, mask=live, other=0.0)
            best = tl.full((PAGES, VECTORS), float("-inf"), tl.float32)
            for i in range(tl.max(end - first)):
                span = tl.minimum(first + i, end - 1)
                best = tl.maximum(best, tl.load(maxima + span[:, None] * vectors + t[None, :], mask=live[None, :], other=0.0))
            total += tl.sum(best * weight[None, :], axis=1)
    tl.store(scores + page * queries + query, total, mask=inside)


@dataclass(frozen=True)
class WorkList:
    """Spans of one class of lengths: lane i of tile j is entry j · lanes + i, and programs take runs of tiles.

    Attributes:
        lane_rows: rows of a lane.
        starts, lasts: int32, the lane's first row in its tile, and its span's last row; for one tile more than there is.
        outs: int32, the span, or -1 in lanes without one.
        programs: (programs + 1,) int32, the first tile of each program.
    """

    lane_rows: int
    starts: torch.Tensor
    lasts: torch.Tensor
    outs: torch.Tensor
    programs: torch.Tensor


@dataclass(frozen=True)
class Plan:
    """What to compute for a list of pages, on the device.

    Attributes:
        firsts: (P + 1,) int32, where each page's spans begin.
        spans: how many there are.
        pairs: whether a page's score is over pairs of neighbouring spans.
        rows: rows of the tiles that the work was cut into.
    """

    firsts: torch.Tensor
    spans: int
    pairs: bool
    rows: int
    work: tuple[WorkList, ...]


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


def score_pages(codes: torch.Tensor, factors: torch.Tensor, plan: Plan, queries: QueryTiles, launch: Launch) -> torch.Tensor:
    """(P, Q) float32 on the device: the scores of the pages of a plan, whose tiles are the launch's.

    Args:
        codes: (N, columns) float16 or uint8.
        factors: (N,) float16, empty for `fp16`.
    """
    tiling = queries.tiling
    maxima = torch.empty((plan.spans, queries.padded), dtype=torch.float32, device=codes.device)
    scores = torch.empty((len(plan.firsts) - 1, len(queries.bounds) - 1), dtype=torch.float32, device=codes.device)
    for work in plan.work:
        tiles_t = queries.padded // tiling.vectors
        _span_maxima[((len(work.programs) - 1) * tiles_t,)](
            codes.view(torch.int8) if tiling.bits == 8 else codes,
            factors,
            queries.digits,
            queries.offsets,
            work.starts,
            work.lasts,
            work.outs,
            work.programs,
            maxima,
            tiles_t,
            BITS=tiling.bits,
            COLUMNS=tiling.columns,
            DEPTH=tiling.depth,
            CHUNKS=tiling.chunks,
            ROWS=plan.rows,
            LANE_ROWS=work.lane_rows,
            VECTORS=tiling.vectors,
            RESIDENT=tiling.resident,
            WIDE=queries.wide,
            PACKED=codes.device.type == "cuda",
            num_warps=launch.warps,
            num_stages=launch.stages,
        )
    _page_scores[(triton.cdiv(scores.shape[0], _SUM_PAGES), scores.shape[1])](
        maxima,
        plan.firsts,
        queries.weights,
        queries.bounds,
        scores,
        scores.shape[0],
        queries.padded,
        scores.shape[1],
        PAIRS=plan.pairs,
        PAGES=_SUM_PAGES,
        VECTORS=_SUM_VECTORS,
    )
    return scores


def fastest(
    options: Sequence[Launch], plans: Sequence[Plan], codes: torch.Tensor, factors: torch.Tensor, queries: QueryTiles
) -> Launch:
    """The launch that took the least time on a GPU for the same pages, planned for each; all give the same scores."""
    taken = []
    for launch, plan in zip(options, plans, strict=True):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        for run in range(6):
            if run == 2:
                begin.record()
            score_pages(codes, factors, plan, queries, launch)
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end))
    return options[int(np.argmin(taken))]
