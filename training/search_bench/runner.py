"""One engine in a process of its own: what it needs is there, it ends in time, and whatever goes wrong becomes a row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from colsearcher.training.search_bench.corpus import Corpus
from colsearcher.training.search_bench.engine_table import EngineRow
from colsearcher.training.search_bench.environments import NoEnvironment, python_of
from colsearcher.training.search_bench.presets import CONCURRENT

NUMBERS = ("ms_per_query", "qps_16", "recall@10", "bytes_per_vector", "build_s")
QUERY_SECONDS = 60.0
MEASURE = Path(__file__).parent / "engines" / "measure.py"
# Below this the machine starts to drop the files that engines map, and timings mean nothing.
LEAST_MEMORY = 400_000_000


def measure_row(row: EngineRow, corpus: Corpus, timed: int, out: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """A row of the table: measured, or with nulls for numbers and the reason as its "note"."""
    needed, free = row.memory * corpus.vectors, free_memory()
    if needed > free:
        return unmeasured(row.name, f"needs {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} GB are free")
    try:
        python = python_of(row.peer, out, tell) if row.peer else Path(sys.executable)
    except NoEnvironment as error:
        return unmeasured(row.name, str(error))
    tell(f"measuring {row.name}")
    work = corpus.folder / "engines" / (row.name.replace(" ", "-").replace(",", ""))
    work.mkdir(parents=True, exist_ok=True)
    request = {
        "module": row.module,
        "options": row.options,
        "data": str(corpus.folder.absolute()),
        "index": str((corpus.folder / "indexes" / (row.index or work.name)).absolute()),
        "reuse": row.reuse,
        "timed": timed,
        "concurrent": CONCURRENT,
        "seconds": QUERY_SECONDS,
        "row": str((work / "row.json").absolute()),
    }
    (work / "request.json").write_text(json.dumps(request))
    (work / "row.json").unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not (row.peer and k in ("PYTHONPATH", "VIRTUAL_ENV"))}
    command = [str(python), str(MEASURE), str(work / "request.json")]
    reason = _run(command, environment, work / "log.txt", 60 * row.minutes)
    if reason is not None:
        return unmeasured(row.name, reason)
    measured: Mapping[str, Any] = json.loads((work / "row.json").read_text())
    return {"engine": row.name, "note": "", **measured}


def unmeasured(engine: str, reason: str) -> dict[str, Any]:
    """The row of an engine that could not be measured."""
    return {"engine": engine, "note": reason, **dict.fromkeys(NUMBERS)}


def free_memory() -> int:
    """Bytes that a new process can have without swapping; on systems without `/proc`, all of the memory."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return 1024 * int(line.split()[1])


def _run(command: list[str], environment: dict[str, str], log: Path, seconds: float) -> str | None:
    """None where the process succeeds, else why it did not; its output goes to the log."""
    ends = time.monotonic() + seconds
    with log.open("w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            while process.poll() is None:
                time.sleep(0.5)
                if time.monotonic() > ends:
                    return f"was not done after {seconds / 60:.0f} minutes"
                if free_memory() < LEAST_MEMORY:
                    return "memory ran out"
        finally:
            process.kill()
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return f"its process was ended by signal {-process.returncode}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else f"its process ended with code {process.returncode}")[:200]
