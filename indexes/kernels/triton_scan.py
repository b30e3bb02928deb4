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

Query vectors are stored as two digits, so that tensor cores give more than their own precision; see `query_tiles`. Products
of codes are sums of integers and exact; products of float16 are summed in float32, always along the same components together.
A page's score is therefore the same bits whatever else is scored.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from colsearcher.indexes.kernels.gpu_plan import Plan
from colsearcher.indexes.kernels.query_tiles import Launch, QueryTiles

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
