"""Checks the GPU kernels against the definition in float64, then times them beside the card's copy bandwidth; last, FAISS
candidates on the card beside those of the processor.

    python dev/gpu_check.py --out gpu_check.json

Pages are 1,030 vectors of 128 components and queries 32 vectors; codes are random and made on the card. Without a card that the
kernels compile for, every row says «not measured». Bytes are those of codes and factors, each counted once; a copy counts what
it reads and what it writes.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from colsearcher.indexes.candidate_store import Kind
from colsearcher.indexes.candidates import CandidateIndex, Effort
from colsearcher.indexes.codecs import CODECS, Codec, EncodedVectors
from colsearcher.indexes.kernels import gpu, gpu_plan
from colsearcher.indexes.maxsim import PageRows, QueryBatch

DIM, ROWS, QUERY_ROWS, TOP = 128, 1_030, 32, 10
PAGES, STREAMED_PAGES = 100_000, 8_000
RUNS, WARM_UP = 20, 3
NOT_MEASURED = "not measured"
CANDIDATE_PAGES, POOLED = 20_000, 30
CANDIDATE_KINDS: tuple[Kind, ...] = ("flat", "ivf")
KINDS = ("scan", "scan for 16 queries", "scan in passages", "search", "streamed")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Check and time the GPU kernels.")
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    out = parser.parse_args().out
    if not gpu.available():
        print("There is no GPU here that the kernels compile for: nothing is measured.")
    print(f"{'':28}{'ms':>12}{'GB/s':>10}{'of copy':>9}  more")
    rows: list[Row] = []
    # What is known is written at once: a run that is cut off leaves that much.
    for row in measured() if gpu.available() else not_measured():
        rows.append(row)
        print(line(row), flush=True)
        out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


def not_measured() -> Iterator[Row]:
    names = [f"{kind} {name}" for kind, name in itertools.product(("check", *KINDS), CODECS)]
    names += [f"candidates {kind}" for kind in CANDIDATE_KINDS]
    yield from ({"name": name, "result": NOT_MEASURED} for name in ("copy", *names))


def measured() -> Iterator[Row]:
    for codec in CODECS.values():
        yield check(codec)
    copied = copy_gb_per_s()
    yield {"name": "copy", "gb_per_s": copied}
    for codec in CODECS.values():
        yield from resident(codec, copied)
    for codec in CODECS.values():
        yield streamed(codec)
    yield from map(candidates, CANDIDATE_KINDS)


def unit(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def some_queries(count: int, rows: int = QUERY_ROWS, dim: int = DIM) -> QueryBatch:
    rng = np.random.default_rng(count)
    return QueryBatch.stack([unit(rng, rows, dim) for _ in range(count)], [np.full(rows, 1 / rows)] * count)


def check(codec: Codec) -> Row:
    """The largest difference from float64 over dimensions, passages and ragged pages; whether bits are equal however scored."""
    rng = np.random.default_rng(0)
    worst, same = 0.0, True
    rows = np.concatenate([rng.integers(1, 40, 150), rng.integers(40, 1_100, 40), [5_000]])
    starts = np.cumsum(rows) - rows
    for dim, block_rows in ((20, 0), (384, 4), (1_100, 0), (DIM, 0), (DIM, 32)):
        encoded = codec.encode(unit(rng, int(rows.sum()), dim))
        pages = PageRows("check", encoded, starts, rows)
        lengths = (1, 20, 32, 70) if dim == DIM else (1, 20)
        queries = QueryBatch.stack([unit(rng, n, dim) for n in lengths], [np.full(n, 1 / n) for n in lengths])
        found = gpu.DeviceScanner().scan([pages], codec, queries, block_rows)
        worst = max(worst, float(np.abs(found - expected(codec.decode(encoded, dim), pages, queries, block_rows)).max()))
        same &= gpu.DeviceScanner(budget_bytes=0).scan([pages], codec, queries, block_rows).tobytes() == found.tobytes()
        if dim != DIM:
            continue
        for q, (a, b) in enumerate(itertools.pairwise(queries.offsets_Q)):
            alone = QueryBatch.stack([queries.vectors_T_D[a:b]], [queries.weights_T[a:b]])
            same &= gpu.DeviceScanner().scan([pages], codec, alone, block_rows)[:, 0].tobytes() == found[:, q].tobytes()
        same &= every_launch_agrees(codec, pages, queries, block_rows)
    return {"name": f"check {codec.name}", "largest_error": worst, "below_5e-5": worst < 5e-5, "same_bits": same}


def expected(vectors_N_D: np.ndarray, pages: PageRows, queries: QueryBatch, block_rows: int) -> np.ndarray:
    scores = np.empty((len(pages.rows_P), len(queries.offsets_Q) - 1))
    query = queries.vectors_T_D.astype(np.float64)
    for p, (start, n) in enumerate(zip(pages.starts_P, pages.rows_P, strict=True)):
        similarities = vectors_N_D[start : start + n].astype(np.float64) @ query.T
        blocks = [similarities[i : i + block_rows].max(axis=0) for i in range(0, n, block_rows)] if block_rows else []
        passages = [np.maximum(a, b) for a, b in itertools.pairwise(blocks)] or blocks or [similarities.max(axis=0)]
        for q, (a, b) in enumerate(itertools.pairwise(queries.offsets_Q)):
            scores[p, q] = max(passage[a:b] @ queries.weights_T[a:b] for passage in passages)
    return scores


def every_launch_agrees(codec: Codec, pages: PageRows, queries: QueryBatch, block_rows: int) -> bool:
    import torch

    from colsearcher.indexes.kernels import query_tiles, triton_scan

    device = torch.device("cuda")
    codes, factors = (torch.from_numpy(array).to(device) for array in (pages.encoded.codes, pages.encoded.factors))
    tiles = query_tiles.tile_queries(queries, codec, device)
    found = []
    for launch in query_tiles.launches(tiles.tiling, device):
        plan = gpu_plan.plan_pages(pages.starts_P, pages.rows_P, block_rows, launch.rows, device)
        found.append(triton_scan.score_pages(codes, factors, plan, tiles, launch))
    return all(torch.equal(found[0], other) for other in found)


def copy_gb_per_s() -> float:
    import torch

    source = torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) / 1e6


def milliseconds(work: Callable[[], object]) -> float:
    """The median time on the card."""
    import torch

    taken = []
    for _ in range(WARM_UP + RUNS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end))
    return statistics.median(taken[WARM_UP:])


def wall_milliseconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """The median time until results are on the host."""
    taken = []
    for _ in range(WARM_UP + runs):
        begin = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(taken[WARM_UP:])


def resident(codec: Codec, copied: float) -> Iterator[Row]:
    """Kernels alone, and whole searches until the best pages are on the host."""
    import torch

    from colsearcher.indexes.kernels import query_tiles, triton_scan

    names = [f"{kind} {codec.name}" for kind in KINDS[:-1]]
    n, row_bytes = PAGES * ROWS, codec.bytes_per_vector(DIM)
    torch.cuda.empty_cache()
    if n * row_bytes + (2 << 30) > torch.cuda.mem_get_info()[0]:
        yield from ({"name": name, "result": NOT_MEASURED, "why": "does not fit the card"} for name in names)
        return
    codes, factors = random_codes(codec, n)
    starts = np.arange(0, n, ROWS)
    pages = PageRows(codec.name, described(codec, n), starts, np.full(PAGES, ROWS))
    scanner = gpu.DeviceScanner(budget_bytes=n * row_bytes)
    # The rows are on the card already.
    scanner._residents[pages.key] = gpu._Resident(codes, factors)
    for name, count, block_rows in zip(names[:3], (1, 16, 1), (0, 0, 32), strict=True):
        queries = some_queries(count)
        scanner.top([pages], codec, queries, TOP, block_rows)
        tiles = query_tiles.tile_queries(queries, codec, torch.device("cuda"))
        launch = scanner.launches.get((tiles.tiling, block_rows), query_tiles.launches(tiles.tiling, torch.device("cuda"))[0])
        plan = gpu_plan.plan_pages(starts, pages.rows_P, block_rows, launch.rows, torch.device("cuda"))
        ms = milliseconds(functools.partial(triton_scan.score_pages, codes, factors, plan, tiles, launch))
        gb_per_s = n * row_bytes / ms / 1e6
        yield {
            "name": name,
            "ms": ms,
            "gb_per_s": gb_per_s,
            "share_of_copy": gb_per_s / copied,
            "launch": [launch.rows, launch.warps, launch.stages],
        }
    queries = some_queries(1)
    yield {"name": names[3], "ms": wall_milliseconds(lambda: scanner.top([pages], codec, queries, TOP))}


def random_codes(codec: Codec, n: int) -> tuple[Any, Any]:
    import torch

    shape = (n, codec.code_columns(DIM))
    if codec.bits == 16:
        codes = torch.empty(shape, dtype=torch.float16, device="cuda")
        for part in codes.split(1 << 22):
            part.normal_(std=DIM**-0.5)
        return codes, torch.empty(0, dtype=torch.float16, device="cuda")
    codes = torch.empty(shape, dtype=torch.uint8, device="cuda")
    for part in codes.split(1 << 22):
        part.random_(0, 256)
    return codes, torch.full((n,), 0.01, dtype=torch.float16, device="cuda")


def described(codec: Codec, n: int) -> EncodedVectors:
    """Arrays of the right shapes that take no memory."""
    codes = np.zeros((1, codec.code_columns(DIM)), dtype=np.float16 if codec.bits == 16 else np.uint8)
    factors = np.zeros(0 if codec.bits == 16 else 1, dtype=np.float16)
    return EncodedVectors(np.broadcast_to(codes, (n, codes.shape[1])), np.broadcast_to(factors, n) if len(factors) else factors)


def streamed(codec: Codec) -> Row:
    """Whole searches of pages in the host's memory, none of which may stay on the card."""
    n = STREAMED_PAGES * ROWS
    codes = np.random.default_rng(0).integers(0, 2, (n, codec.code_columns(DIM)), dtype=np.uint8)
    encoded = EncodedVectors(codes, np.full(n, 0.01, dtype=np.float16))
    if codec.bits == 16:
        encoded = EncodedVectors(codes.astype(np.float16), np.empty(0, dtype=np.float16))
    pages = PageRows(codec.name, encoded, np.arange(0, n, ROWS), np.full(STREAMED_PAGES, ROWS))
    scanner, queries = gpu.DeviceScanner(budget_bytes=0), some_queries(1)
    ms = wall_milliseconds(lambda: scanner.top([pages], codec, queries, TOP), runs=5)
    gb_per_s = n * codec.bytes_per_vector(DIM) / ms / 1e6
    return {"name": f"streamed {codec.name}", "pages": STREAMED_PAGES, "ms": ms, "gb_per_s": gb_per_s}


def candidates(kind: Kind) -> Row:
    """The share of a query's 100 best pages that card and processor agree on, and milliseconds of each."""
    rng = np.random.default_rng(0)
    ids = np.arange(CANDIDATE_PAGES)
    batches = ((unit(rng, len(part) * POOLED, DIM), np.repeat(part, POOLED)) for part in np.array_split(ids, 20))
    queries = [(unit(rng, QUERY_ROWS, DIM), np.full(QUERY_ROWS, 1 / QUERY_ROWS)) for _ in range(16)]
    effort = Effort(32, 1_000)
    with tempfile.TemporaryDirectory() as folder:
        on_cpu = CandidateIndex.build(batches, DIM, CANDIDATE_PAGES, folder=Path(folder) / kind, kind=kind)
        on_card = CandidateIndex.open(Path(folder) / kind, "cuda")
        if not on_card.on_gpu:
            return {"name": f"candidates {kind}", "result": NOT_MEASURED, "why": "this FAISS has no GPU; install faiss-gpu"}
        pairs = zip(on_cpu.candidates(queries, 100, effort), on_card.candidates(queries, 100, effort), strict=True)
        same = statistics.mean(float(np.isin(a, b).mean()) for (a, _), (b, _) in pairs)
        ms, cpu_ms = (wall_milliseconds(lambda i=i: i.candidates(queries[:1], 100, effort)) for i in (on_card, on_cpu))
    return {"name": f"candidates {kind}", "ms": ms, "cpu_ms": cpu_ms, "same": same}


def machine() -> dict[str, str]:
    import torch

    names = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name() if gpu.available() else "none"}
    if gpu.available():
        import triton

        names["triton"] = triton.__version__
    return names


def line(row: Row) -> str:
    ms = f"{row['ms']:.2f}" if "ms" in row else row.get("result", "")
    speed = f"{row['gb_per_s']:.0f}" if "gb_per_s" in row else ""
    share = f"{row['share_of_copy']:.0%}" if "share_of_copy" in row else ""
    more = {key: row[key] for key in row if key not in ("name", "ms", "gb_per_s", "share_of_copy", "result")}
    return f"{row['name']:28}{ms:>12}{speed:>10}{share:>9}  {more or ''}".rstrip()


if __name__ == "__main__":
    main()
