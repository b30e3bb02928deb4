"""Measure one engine on vectors in files, and write a row.

    python measure.py request.json

Runs in the engine's own environment: numpy, the standard library and the engine's module beside this file are all it imports.
The request is `Request` as JSON; the row goes to its `row` file.
"""

from __future__ import annotations

import importlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

FEWEST, BATCHES = 5, 3


class Engine(Protocol):
    """What an engine's module has under this name, made with the options of its row.

    `build` goes from `vectors.npy` and `offsets.npy` in the folder `data` to something searchable. An engine whose index is
    kept leaves it under `index`, and `open` makes it searchable again. `search` answers any number of (t, D) float32 queries
    with the numbers of their k best pages, one query or many each in the engine's best way. `bytes` is the size of the index:
    on disk where it has a form there, else in memory. `facts` are further entries of the row.
    """

    def build(self, data: Path, index: Path) -> None: ...
    def open(self, index: Path) -> None: ...
    def search(self, queries: Sequence[np.ndarray], k: int) -> list[list[int]]: ...
    def bytes(self) -> int: ...
    def facts(self) -> dict[str, object]: ...


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        module: the engine's module.
        options: arguments of its `Engine`.
        data: folder of the corpus.
        index: folder for the engine's index.
        reuse: open the index that a run before built, with the time that it took then.
        timed: so many queries are asked one at a time and timed; recall is over all.
        concurrent: queries of a batch.
        seconds: single queries stop after so long, though not before `FEWEST` have been timed, and so do batches.
        row: file for the row.
    """

    module: str
    options: dict[str, object]
    data: Path
    index: Path
    reuse: bool
    timed: int
    concurrent: int
    seconds: float
    row: Path


def measure(engine: Engine, request: Request) -> dict[str, object]:
    """Build, then time single queries and batches. Returns the entries of a row."""
    built = _built(engine, request)
    offsets = np.load(request.data / "query_offsets.npy")
    queries = np.split(np.load(request.data / "queries.npy"), offsets[1:-1])
    truth_Q_K = np.load(request.data / "truth.npy")
    k = truth_Q_K.shape[1]
    found: dict[int, list[int]] = {}
    for query in queries[:2]:
        engine.search([query], k)
    times: list[float] = []
    started = time.perf_counter()
    for i, query in enumerate(queries[: request.timed]):
        if len(times) >= FEWEST and time.perf_counter() - started > request.seconds:
            break
        at = time.perf_counter()
        (found[i],) = engine.search([query], k)
        times.append(time.perf_counter() - at)
    rates: list[float] = []
    started = time.perf_counter()
    rest = [i for i in range(len(queries)) if i not in found]
    for timed, numbers in ((True, list(range(len(queries)))[: BATCHES * request.concurrent]), (False, rest)):
        for first in range(0, len(numbers), request.concurrent):
            batch = numbers[first : first + request.concurrent]
            if rates and time.perf_counter() - started > request.seconds:
                break
            at = time.perf_counter()
            pages = engine.search([queries[i] for i in batch], k)
            if timed:
                rates.append(len(batch) / (time.perf_counter() - at))
            found = dict(zip(batch, pages, strict=True)) | found
    return {
        "ms_per_query": round(1000 * float(np.median(times)), 2),
        "qps_16": round(float(np.median(rates)), 2),
        "recall@10": round(recall(found, truth_Q_K), 4),
        "bytes_per_vector": round(engine.bytes() / int(np.load(request.data / "offsets.npy")[-1]), 1),
        **built,
        "queries_timed": len(times),
        "queries_answered": len(found),
        **engine.facts(),
    }


def recall(found: dict[int, list[int]], truth_Q_K: np.ndarray) -> float:
    """Mean share of the true k best pages among the k found, over the queries that were answered.

    >>> recall({1: [7, 3]}, np.array([[0, 1], [3, 4]]))
    0.5
    """
    k = truth_Q_K.shape[1]
    return float(np.mean([len(set(pages[:k]) & set(truth_Q_K[i].tolist())) / k for i, pages in found.items()]))


def _built(engine: Engine, request: Request) -> dict[str, float]:
    """Seconds of the build and the process's peak of resident memory in it, megabytes."""
    record = request.index / "built.json"
    if request.reuse and record.exists():
        engine.open(request.index)
        return json.loads(record.read_text())
    shutil.rmtree(request.index, ignore_errors=True)
    request.index.mkdir(parents=True)
    started = time.perf_counter()
    engine.build(request.data, request.index)
    seconds = time.perf_counter() - started
    built = {"build_s": round(seconds, 2), "build_rss_mb": round(_peak_memory() / 1e6)}
    record.write_text(json.dumps(built))
    return built


def _peak_memory() -> int:
    """Bytes of memory that this process has held at most; `getrusage` would count its parent's before the start as well."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def main() -> int:
    values = json.loads(Path(sys.argv[1]).read_text())
    request = Request(**values | {name: Path(values[name]) for name in ("data", "index", "row")})
    engine = importlib.import_module(request.module).Engine(**request.options)
    request.row.write_text(json.dumps(measure(engine, request)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
