"""What a run has come to: curves over the steps and the evaluations before and after, as HTML and PNG.

A run's folder holds stages (`retrieval`, `answer`), or is one itself; a cold start is shown by its loss.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colsearcher.indexes.errors import UserError
from colsearcher.training.answer_evaluation import read_records, summarise_answers
from colsearcher.training.policy.recipe import STAGES
from colsearcher.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each drawing: title, and the metrics in it by what they are called there.
CURVES: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("reward", {"reward": "reward"}),
    (
        "rates",
        {
            "agent/search_rate": "searches",
            "agent/format_rate": "keeps the format",
            "agent/answer_rate": "answers",
            "agent/right_rate": "is right",
        },
    ),
    ("entropy, nats a token", {"entropy": "entropy"}),
    ("logprob of right rollouts, nats a token", {"agent/right_logprob": "right rollouts"}),
    ("|Δlogp| between sampling and training", {"agent/logprob_difference": "|Δlogp|"}),
    ("loss", {"loss": "loss"}),
)
METRICS = (
    ("EM", "em"),
    ("F1", "f1"),
    ("CEM", "cem"),
    ("search rate", "search_rate"),
    ("searches", "searches"),
    ("format rate", "format_rate"),
)
_COLOURS = ("#2456c7", "#0c7a53", "#c2410c", "#7c3aed")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; margin: 0 auto; max-width: 1060px; padding: 28px 20px 60px }
h1 { font-size: 21px } h2 { font-size: 16px; margin-top: 32px } img { width: 100% }
table { border-collapse: collapse } th, td { padding: 4px 14px 4px 0; text-align: right; border-bottom: 1px solid #d9dee7 }
th:first-child, td:first-child { text-align: left } .stopped { color: #b42318 } pre { font-size: 12.5px; color: #667085 }
"""


@dataclass(frozen=True)
class StageRecord:
    """What one folder of a run tells.

    Attributes:
        rows: the metrics of its steps.
        evaluations: summaries by name (`before`, `after`), as far as they are there.
        collapse: why its guard stopped it.
    """

    name: str
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    evaluations: Mapping[str, Mapping[str, float | None]]
    collapse: str | None


def read_run(folder: Path) -> list[StageRecord]:
    """The stages of a run, in their order.

    Raises:
        UserError: the folder holds no run.
    """
    places = [folder / name for name in STAGES if (folder / name / "config.json").is_file()]
    if not places and (folder / "config.json").is_file():
        places = [folder]
    if not places:
        raise UserError(f"{folder} holds no run of `train policy` or `train sft`.")
    return [_stage(place) for place in places]


def _stage(place: Path) -> StageRecord:
    rows = RunFolder(place).rows()
    evaluations = {
        name: summarise_answers(read_records(place / name))
        for name in ("before", "after")
        if (place / name / "answers.jsonl").is_file()
    }
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    collapse = next((str(row["collapse"]) for row in rows if "collapse" in row), None)
    return StageRecord(place.name, config, [row for row in rows if "step" in row], evaluations, collapse)


def draw_curves(stages: Sequence[StageRecord]) -> Figure:
    """Every metric that was measured, over the steps of all stages one after the other.

    Raises:
        UserError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("Curves are drawn with matplotlib, which is not installed; install `colsearcher[train]`.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = [
        (title, names) for title, names in CURVES if any(name in row for s in stages for row in s.rows for name in names)
    ]
    height = max(1, -(-len(measured) // 2))
    figure = Figure(figsize=(11, 3.1 * height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, names) in enumerate(measured, 1):
        axes = figure.add_subplot(height, 2, number)
        axes.set_title(title, fontsize=10, loc="left")
        _draw(axes, stages, names)
    return figure


def _draw(axes: Axes, stages: Sequence[StageRecord], names: Mapping[str, str]) -> None:
    begin = 0
    for stage in stages:
        for (name, label), colour in zip(names.items(), _COLOURS, strict=False):
            points = [(begin + row["step"], row[name]) for row in stage.rows if name in row]
            if points:
                steps, values = zip(*points, strict=True)
                first = stage is stages[0] or begin == 0
                axes.plot(steps, values, lw=0.7, alpha=0.35, color=colour)
                axes.plot(steps, _smooth(values), lw=1.8, color=colour, label=label if first else None)
        begin += max((row["step"] for row in stage.rows), default=0)
        if stage is not stages[-1]:
            axes.axvline(begin + 0.5, color="#98a2b3", lw=0.8, ls="--")
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    if len(names) > 1:
        axes.legend(fontsize=8, frameon=False)


def _smooth(values: Sequence[float], window: int = 5) -> list[float]:
    """
    >>> _smooth([0.0, 1.0, 1.0], window=2)
    [0.0, 0.5, 1.0]
    """
    kept = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [sum(own) / len(own) for own in kept]


def evaluation_columns(stages: Sequence[StageRecord]) -> dict[str, Mapping[str, float | None]]:
    """The evaluations beside each other: before the first stage, after each."""
    columns = {}
    if stages and "before" in stages[0].evaluations:
        columns["before"] = stages[0].evaluations["before"]
    columns |= {f"after {stage.name}": stage.evaluations["after"] for stage in stages if "after" in stage.evaluations}
    return columns


def evaluation_table(stages: Sequence[StageRecord]) -> list[str]:
    """Lines for a terminal; none without an evaluation."""
    columns = evaluation_columns(stages)
    if not columns:
        return []
    widths = {name: max(10, len(name) + 2) for name in columns}
    lines = [f"{'held out':<12}" + "".join(f"{name:>{widths[name]}}" for name in columns)]
    for title, metric in METRICS:
        lines.append(f"{title:<12}" + "".join(f"{_number(own[metric]):>{widths[name]}}" for name, own in columns.items()))
    lines.append(f"{'F1 from':<12}" + "".join(f"{_number(own['f1_low']):>{widths[name]}}" for name, own in columns.items()))
    lines.append(f"{'F1 to':<12}" + "".join(f"{_number(own['f1_high']):>{widths[name]}}" for name, own in columns.items()))
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def write_report(folder: Path) -> list[Path]:
    """Write `report.html` and `report.png` into a run's folder.

    Raises:
        UserError: the folder holds no run, or matplotlib is not installed.
    """
    stages = read_run(folder)
    picture = io.BytesIO()
    draw_curves(stages).savefig(picture, format="png")
    written = [folder / "report.png", folder / "report.html"]
    written[0].write_bytes(picture.getvalue())
    written[1].write_text(_page(folder.name, stages, picture.getvalue()), encoding="utf-8")
    return written


def _page(name: str, stages: Sequence[StageRecord], picture: bytes) -> str:
    stopped = [(stage.name, stage.collapse) for stage in stages if stage.collapse]
    parts = [f"<h1>{escape(name)}</h1>"]
    parts += [f'<p class="stopped">{escape(stage)} was stopped: {escape(why)}</p>' for stage, why in stopped]
    if columns := evaluation_columns(stages):
        heads = "".join(f"<th>{escape(title)}</th>" for title in ("held out", *columns))
        rows = [
            f"<tr><td>{title}</td>" + "".join(f"<td>{_number(own[metric])}</td>" for own in columns.values()) + "</tr>"
            for title, metric in (*METRICS, ("F1 from (95 %)", "f1_low"), ("F1 to (95 %)", "f1_high"))
        ]
        questions = next(iter(columns.values()))["questions"]
        parts.append(f"<h2>Held-out questions ({questions})</h2><table><tr>{heads}</tr>{''.join(rows)}</table>")
    curves = base64.b64encode(picture).decode()
    parts.append(f'<h2>Curves</h2><img alt="curves" src="data:image/png;base64,{curves}">')
    for stage in stages:
        config = json.dumps(stage.config, indent=1, ensure_ascii=False)
        parts.append(f"<h2>{escape(stage.name)}: configuration</h2><pre>{escape(config)}</pre>")
    head = f'<meta charset="utf-8"><title>{escape(name)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>\n"
