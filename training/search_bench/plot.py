"""Recall against time, one point per engine: the PNG that a reader looks at first."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from colsearcher.indexes.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[str, float, float]
LEADER = {"arrowstyle": "-", "color": "#94a3b8", "lw": 0.6}
OURS, PEERS, INK = "#c2410c", "#475569", "#1e293b"
# The engines that miss next to nothing crowd one line: their names lean over it, in a headroom of this share of the plot.
TOP, HEADROOM, LEAN = 0.03, 0.5, 38
# Where any other label may stand, in points from its mark: near it first, then further and further off.
PLACES = [(x * far, y * far) for far in (1, 2, 3.5, 5) for x, y in ((9, 0), (-9, 0), (7, 10), (7, -10), (-7, 10), (-7, -10))]


def require_matplotlib() -> None:
    """
    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("The bench draws with matplotlib, which is not installed; run `make setup`.")


def draw(rows: Sequence[dict[str, Any]], ours: Collection[str], title: str) -> Figure:
    """A figure of the measured rows: recall@10 over milliseconds per query, which are on a logarithmic scale.

    Args:
        rows: of the table; those without numbers are left out.
        ours: the engines that are drawn in colour.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = Figure(figsize=(10, 6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = [(r["engine"], r["ms_per_query"], r["recall@10"]) for r in rows if r["ms_per_query"] is not None]
    for group, colour, marker, label in ((True, OURS, "o", "ColSearcher"), (False, PEERS, "s", "others")):
        own = [(x, y) for name, x, y in points if (name in ours) == group]
        axes.scatter([x for x, _ in own], [y for _, y in own], s=46, c=colour, marker=marker, label=label, zorder=3)
    span = max([0.1, *(1.0 - y for _, _, y in points)])
    axes.set_ylim(1.0 - 1.08 * span, 1.0 + HEADROOM * span)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if span / step < 8)
    axes.set_yticks(1.0 - step * np.arange(int(1.08 * span / step) + 1))
    axes.set_xscale("log")
    times = [x for _, x, _ in points] or [1.0]
    axes.set_xlim(min(times) / 1.6, max(times) * 1.9)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.grid(color="#e2e8f0", zorder=0)
    axes.axhline(1.0, color="#94a3b8", lw=0.8, zorder=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("milliseconds per query (one at a time, median; logarithmic)", color=INK)
    axes.set_ylabel("recall@10 against exact float32 MaxSim", color=INK)
    axes.set_title(title, loc="left", color=INK, fontsize=12)
    axes.legend(loc="lower right", frameon=False)
    figure.draw_without_rendering()
    top = [point for point in points if 1.0 - point[2] < TOP * span]
    _label_top(axes, top, ours)
    _label(axes, points, [point for point in points if point not in top], ours)
    return figure


def _label_top(axes: Axes, points: Sequence[Point], ours: Collection[str]) -> None:
    """Leaning names above the marks, moved to the right where they would touch."""
    dots = axes.figure.dpi / 72
    free = -np.inf
    for name, x, y in sorted(points, key=lambda point: point[1]):
        across, _ = axes.transData.transform((x, y))
        moved = max(across, free)
        free = moved + 19 * dots
        axes.annotate(
            name,
            (x, y),
            ((moved - across) / dots, 10),
            textcoords="offset points",
            rotation=LEAN,
            rotation_mode="anchor",
            fontsize=9,
            color=OURS if name in ours else INK,
            arrowprops={**LEADER, "relpos": (0, 0)} if moved - across > 4 * dots else None,
        )


def _label(axes: Axes, points: Sequence[Point], labelled: Sequence[Point], ours: Collection[str]) -> None:
    """Names beside the marks, each at the first of `PLACES` where it covers no mark and no other name."""
    from matplotlib.transforms import Bbox

    marks = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [Bbox.from_bounds(x - 9, y - 9, 18, 18) for x, y in marks]
    frame = axes.get_window_extent()
    for name, x, y in sorted(labelled, key=lambda point: (-point[2], point[1])):
        best = None
        for right, up in PLACES:
            text = axes.annotate(
                name,
                (x, y),
                (right, up),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                va="center",
                fontsize=9,
                color=OURS if name in ours else INK,
                arrowprops=LEADER if abs(right) > 10 or abs(up) > 10 else None,
            )
            box = type(text).get_window_extent(text)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            covered = sum(box.overlaps(other) for other in taken) + (not inside)
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
            if covered == 0:
                break
        if best is not None:
            taken.append(best[2])
