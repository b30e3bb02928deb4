"""`bench_search`: the vectors of a preset, every engine after the other, one table, one plot, one document."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import UserError
from colsearcher.training.search_bench.corpus import find_source, prepare
from colsearcher.training.search_bench.engine_table import FAST_PLAID, TORCH, EngineRow, rows_of
from colsearcher.training.search_bench.plot import draw, require_matplotlib
from colsearcher.training.search_bench.presets import Preset
from colsearcher.training.search_bench.runner import NUMBERS, measure_row, unmeasured

COLUMNS = (*NUMBERS, "ratio_to_torch", "ratio_to_fast_plaid")


def bench_search(
    preset: Preset,
    *,
    data: Path | None,
    out: Path,
    only: Sequence[str],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Measure the engines of a preset, never two at once.

    Args:
        data: the folder of real text; None for the default place, or synthetic vectors where that is absent.
        out: folder for vectors, peers' environments, indexes, the plot `<preset>.png` and the report `<preset>.json`, which
            is brought up to date after every row.
        only: names of rows, none for all; plot and report are then named `<preset>-part`.

    Raises:
        UserError: `only` names no row of the preset, or matplotlib is not installed.
    """
    require_matplotlib()
    rows = _chosen(preset.name, only)
    tell("preparing vectors")
    corpus = prepare(preset, find_source(data, out, tell), out, tell)
    tell(f"{corpus.pages:,} pages, {corpus.vectors:,} vectors, {corpus.queries} queries: {corpus.about}")
    name = corpus.folder.name + ("-part" if only else "")
    plot = out / f"{name}.png"
    report: dict[str, Any] = {
        "preset": preset.name,
        "rows": [],
        "machine": machine(),
        "vectors": corpus.facts,
        "plot": str(plot),
    }
    failed: dict[str, str] = {}
    for row in rows:
        if row.index in failed:
            measured = unmeasured(row.name, failed[row.index])
        else:
            measured = measure_row(row, corpus, preset.timed, out, tell)
        if row.index and measured["ms_per_query"] is None:
            failed[row.index] = measured["note"]
        tell(f"  {summary(measured)}")
        report["rows"].append(measured)
        add_ratios(report["rows"])
        plot.with_suffix(".json").write_text(json.dumps(report, ensure_ascii=False, indent=1))
    title = f"{corpus.pages:,} pages, {corpus.vectors / 1e6:.2f} million vectors, {report['machine']['cores']} cores"
    draw(report["rows"], [row.name for row in rows if row.ours], title).savefig(plot)
    return report


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """How many times faster than torch and than fast-plaid at its defaults a row answers one query."""
    ms = {row["engine"]: row["ms_per_query"] for row in rows}
    for row in rows:
        for column, peer in (("ratio_to_torch", TORCH), ("ratio_to_fast_plaid", FAST_PLAID)):
            known = ms.get(peer) and row["ms_per_query"]
            row[column] = round(ms[peer] / row["ms_per_query"], 2) if known else None


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as aligned lines, those without numbers with their reason; then the notes on rows that have numbers."""
    lines = [f"{'engine':<28}" + "".join(f"{name:>{len(name) + 3}}" for name in COLUMNS)]
    for row in rows:
        if row["ms_per_query"] is None:
            lines.append(f"{row['engine']:<28}   not measured: {row['note']}")
            continue
        cells = (("–" if row[name] is None else f"{row[name]:,.{4 if name == 'recall@10' else 2}f}") for name in COLUMNS)
        lines.append(f"{row['engine']:<28}" + "".join(f"{cell:>{len(n) + 3}}" for n, cell in zip(COLUMNS, cells, strict=True)))
    return lines + [f"{row['engine']}: {row['note']}" for row in rows if row["note"] and row["ms_per_query"] is not None]


def summary(row: dict[str, Any]) -> str:
    """A row while it is fresh."""
    if row["ms_per_query"] is None:
        return f"not measured: {row['note']}"
    return f"{row['ms_per_query']:,.2f} ms per query, recall@10 {row['recall@10']:.4f}, build {row['build_s']:,.1f} s"


def machine() -> dict[str, object]:
    """What the numbers were measured on, and when."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    flags = set(facts.get("flags", "").split())
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "instructions": [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16") if name in flags],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _chosen(preset: str, only: Sequence[str]) -> list[EngineRow]:
    rows = rows_of(preset)
    unknown = set(only) - {row.name for row in rows}
    if unknown:
        raise UserError(
            f"Preset {preset} has no engine «{sorted(unknown)[0]}»; choose among: {', '.join(row.name for row in rows)}."
        )
    return [row for row in rows if not only or row.name in only]
