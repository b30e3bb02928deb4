"""How pages on a GPU become work for `triton_scan`: spans, the tiles that they share, the programs that run over them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# The longest span, and how many tiles a program takes at most.
SPAN_ROWS = 2_048
_RUN_TILES = 64
# Spans up to these lengths share tiles.
_LANE_ROWS = (16, 32)


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


def spans_of(rows_P: np.ndarray, block_rows: int) -> np.ndarray:
    """(P,) int64: into how many spans pages are cut.

    >>> spans_of(np.array([1, 32, 33, 4_000]), 32).tolist(), spans_of(np.array([1, 32, 33, 4_000]), 0).tolist()
    ([1, 1, 2, 125], [1, 1, 1, 2])
    """
    return -(-rows_P.astype(np.int64) // (block_rows or SPAN_ROWS))


def plan_pages(starts_P: np.ndarray, rows_P: np.ndarray, block_rows: int, rows: int, device: torch.device) -> Plan:
    """Cut pages, which lie anywhere among fewer than 2³¹ rows, into work in tiles of `rows` rows."""
    import torch

    total, unit = int(spans_of(rows_P, block_rows).sum()), block_rows or SPAN_ROWS
    starts = torch.from_numpy(starts_P.astype(np.int64)).to(device)
    stops = starts + torch.from_numpy(rows_P.astype(np.int64)).to(device)
    firsts = _offsets((stops - starts + unit - 1) // unit)
    page_S = torch.repeat_interleave(torch.arange(len(starts), device=device), firsts.diff(), output_size=total)
    span_S = torch.arange(total, device=device)
    start_S = starts[page_S] + (span_S - firsts[page_S]) * unit
    last_S = torch.minimum(start_S + unit, stops[page_S]) - 1
    work, shorter = [], 0
    for lane_rows in (*(short for short in _LANE_ROWS if short < rows), rows):
        length_S = last_S - start_S + 1
        chosen = span_S[(length_S > shorter) & ((length_S <= lane_rows) | (lane_rows == rows))]
        shorter = lane_rows
        if len(chosen):
            work.append(_work_list(chosen, start_S[chosen], last_S[chosen], lane_rows, rows))
    return Plan(firsts.to(torch.int32), total, bool(block_rows), rows, tuple(work))


def _work_list(span_S: torch.Tensor, start_S: torch.Tensor, last_S: torch.Tensor, lane_rows: int, rows: int) -> WorkList:
    """Spans that share tiles, or, where a lane is a tile, walk through their own."""
    import torch

    pad, device = torch.nn.functional.pad, span_S.device
    lanes = rows // lane_rows
    # Where the entries of each span begin; a span that shares has one.
    firsts = _offsets((last_S - start_S) // lane_rows + 1)
    entries = int(firsts[-1])
    tiles = -(-entries // lanes)
    owner = torch.repeat_interleave(torch.arange(len(span_S), device=device), firsts.diff(), output_size=entries)
    start = start_S[owner] + (torch.arange(entries, device=device) - firsts[owner]) * lane_rows
    run = _RUN_TILES
    if device.type == "cuda":
        # Few pages are spread over all processors, several programs on each.
        run = min(max(tiles // (8 * torch.cuda.get_device_properties(device).multi_processor_count), 1), run)
    # A program starts with the first span that starts in its run of tiles.
    programs = firsts[torch.searchsorted(firsts, torch.arange(0, tiles, run, device=device) * lanes)] // lanes
    missing = (0, (tiles + 1) * lanes - entries)
    return WorkList(
        lane_rows,
        pad(start.to(torch.int32), missing),
        pad(last_S[owner].to(torch.int32), missing),
        pad(span_S[owner].to(torch.int32), missing, value=-1),
        pad(programs.to(torch.int32), (0, 1), value=tiles),
    )


def _offsets(counts: torch.Tensor) -> torch.Tensor:
    """0 and the running totals."""
    import torch

    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def runs_within(sizes: np.ndarray, limit: int) -> list[slice]:
    """Runs of items whose sizes sum to at most `limit`, or of a single larger one.

    >>> runs_within(np.array([3, 3, 9, 2, 2, 2]), 6)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 6, None)]
    """
    ends, cuts = np.cumsum(sizes), [0]
    while cuts[-1] < len(sizes):
        before = int(ends[cuts[-1]]) - int(sizes[cuts[-1]])
        cuts.append(max(int(np.searchsorted(ends, before + limit, side="right")), cuts[-1] + 1))
    return [slice(*pair) for pair in itertools.pairwise(cuts)]
