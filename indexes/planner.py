"""Which engine answers a query: the exact scan, the codes, or pooled candidates. The user names a recall, not an engine.

* `exact`: every page that passes the filter is scored from its float16 vectors.
* `codes`: every page is scored from its codes, and the best `depth` pages again from their float16 vectors, where those are
  kept.
* `pooled`: pooled vectors say which pages are worth it (`candidates`); these, the pages that are newer than the candidates,
  and those that the words find are scored as with `codes`.

The cheapest engine that reaches the recall is taken, by the times that `tuning` measured on this index, or else by those of
the constants below; exact is preferred where it is quick.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colsearcher.indexes.segment import Storage
from colsearcher.indexes.tuning import Tuning

Engine = Literal["exact", "codes", "pooled"]

# Nobody notices less than this, so nothing is approximated for it.
QUICK_MS = 20.0
# Nanoseconds that two cores with matrix tiles need for a vector of 128 components, by bits; see dev/LOG.md, 2026-11-22.
_SCAN_NS = {16: 36.0, 8: 14.0, 4: 9.0, 2: 8.0, 1: 8.0}
_DEVICE_BYTES_PER_MS = 2e9
_DISK_BYTES_PER_MS = 1e6
# Pages scored again from their float16 vectors, by the bits of the codes: enough for a recall@10 of 0.99 on real pages
# (dev/LOG.md, 2026-11-22). `index tune` replaces them by what this index needs.
_DEPTHS = {8: 20, 4: 30, 2: 50, 1: 100}
# Beyond this share of the pages' newest, candidates are stale: too many pages would be scanned beside them.
_MAX_UNPOOLED = 0.2


@dataclass(frozen=True)
class Situation:
    """What a plan depends on.

    Attributes:
        pages: pages that pass the filter.
        vectors: their vectors.
        all_pages: pages of the index.
        unpooled: pages that are newer than the candidates.
        storage: how vectors are stored.
        memory_bytes: what the device, or the machine's page cache, can hold.
        device: "cpu" or a CUDA device.
        k: hits wanted.
        recall: share of the exact top ten that has to be found.
        tuning: what was measured on this index, if anything was.
    """

    pages: int
    vectors: int
    all_pages: int
    unpooled: int
    storage: Storage
    memory_bytes: int
    device: str
    k: int
    recall: float
    tuning: Tuning | None


@dataclass(frozen=True)
class Plan:
    """An engine, how many pages it scores again exactly, and why. `estimates_ms` has every engine that could be taken."""

    engine: Engine
    depth: int
    reason: str
    estimates_ms: dict[str, float]


def make_plan(at: Situation) -> Plan:
    """Choose an engine."""
    estimates = {}
    depth = 0
    if at.storage.exact:
        estimates["exact"] = _scan_ms(at, 16, at.vectors)
    why_not_codes = _why_not_codes(at)
    if at.storage.codec.bits < 16 and not why_not_codes:
        depth = _depth(at)
        again = _scan_ms(at, 16, depth * at.vectors // max(at.pages, 1)) if at.storage.exact else 0.0
        if at.storage.exact or at.recall < 1:
            estimates["codes"] = _scan_ms(at, at.storage.codec.bits, at.vectors) + again
    why_not_pooled = why_not_codes or _why_not_pooled(at)
    if not why_not_pooled and at.tuning and at.tuning.pooled:
        estimates["pooled"] = at.tuning.pooled.ms + _scan_ms(at, at.storage.codec.bits, at.unpooled * at.vectors // at.pages)
    if not estimates:
        return Plan("codes", depth, "the index keeps no float16 vectors, so its codes are all there is", {})
    rounded = {name: round(ms, 2) for name, ms in estimates.items()}
    if at.recall >= 1 and "exact" in estimates:
        return Plan("exact", 0, "a recall of 1 was asked for", rounded)
    if estimates.get("exact", QUICK_MS) < QUICK_MS:
        return Plan("exact", 0, f"all {at.pages:,} pages are scored exactly in about {estimates['exact']:.1f} ms", rounded)
    engine: Engine = min(estimates, key=lambda name: estimates[name])  # type: ignore[arg-type]
    others = ", ".join(f"{name} {ms:.0f}" for name, ms in estimates.items() if name != engine)
    reason = f"about {estimates[engine]:.1f} ms for {at.pages:,} pages at a recall of {at.recall:g}"
    reason += f" ({others} ms)" if others else ""
    if why_not_codes or (why_not_pooled and engine != "exact"):
        reason += f"; {why_not_codes or why_not_pooled}"
    return Plan(engine, depth if engine != "exact" else 0, reason, rounded)


def _depth(at: Situation) -> int:
    """Pages that are scored again: what tuning found where that reaches the recall, or the default of the codec."""
    depth = _DEPTHS[at.storage.codec.bits] * (4 if at.recall > 0.99 else 1)
    if at.tuning and at.tuning.depth:
        reached = at.tuning.codes_recall >= at.recall
        depth = at.tuning.depth if reached else max(depth, at.tuning.depth)
    return min(max(depth, 3 * at.k), at.pages)


def _why_not_codes(at: Situation) -> str:
    """A scan of the codes is left where one was looked for that reaches the recall, and there was none."""
    tuned = at.tuning
    if not at.storage.exact or tuned is None or not tuned.depth or tuned.codes_recall >= at.recall or tuned.recall < at.recall:
        return ""
    return f"the best {tuned.depth:,} pages by their codes held {tuned.codes_recall:.3f} of the exact top ten only"


def _why_not_pooled(at: Situation) -> str:
    if at.tuning is None:
        return "`colsearcher index tune` would measure and, for a large index, add candidates"
    pooled = at.tuning.pooled
    if pooled is None:
        return "the index is too small for candidates"
    if pooled.recall < at.recall or at.tuning.recall < at.recall:
        return f"candidates reached a recall of {pooled.recall:.3f} only"
    if at.k > 50:
        return "so many hits are asked for that candidates would not cover them"
    if at.unpooled > _MAX_UNPOOLED * at.all_pages:
        return f"{at.unpooled:,} pages are newer than the candidates; run `colsearcher index tune` again"
    return ""


def _scan_ms(at: Situation, bits: int, vectors: int) -> float:
    """Milliseconds to score so many vectors."""
    stored = vectors * at.storage.dim * bits / 8
    if at.device != "cpu" and stored < at.memory_bytes:
        return stored / _DEVICE_BYTES_PER_MS
    measured = at.tuning.scan_ns.get(str(bits)) if at.tuning else None
    cores = len(os.sched_getaffinity(0))
    ns = measured if measured else _SCAN_NS[bits] * at.storage.dim / 128 * 2 / cores
    milliseconds = vectors * ns / 1e6
    return max(milliseconds, stored / _DISK_BYTES_PER_MS) if stored > at.memory_bytes else milliseconds


def memory_bytes() -> int:
    """What the machine, or the control group that the process is in, may hold in memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(limit)
        if path.is_file() and path.read_text().strip().isdigit():
            total = min(total, int(path.read_text()))
    return total
