"""A trace as one HTML file that needs nothing else: the path from question to answer, the pages, every token, the time."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from html import escape

from PIL import Image

from colsearcher.agent.replay import Hit, Replay, Step, Token

# Draws the page of an address, with where it matches the query; None where its file cannot be drawn.
Draw = Callable[[str, str], Image.Image | None]

_STYLE = """
:root { color-scheme: light; --ink: #1d2430; --soft: #667085; --line: #d9dee7; --found: #0c7a53; --bad: #b42318 }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 0 auto; max-width: 1060px; padding: 28px 20px 60px }
h1 { font-size: 21px; margin: 0 0 4px } h2 { font-size: 14px; text-transform: uppercase; letter-spacing: .05em;
color: var(--soft); margin: 34px 0 10px }
.answer { font-size: 18px; border-left: 4px solid var(--found); padding: 6px 14px; margin: 14px 0 }
.none { border-color: var(--bad) }
.soft { color: var(--soft); font-size: 13px } code { font: 12.5px ui-monospace, monospace }
svg text { font: 12.5px system-ui, sans-serif } .bar { display: flex; height: 22px; border-radius: 5px; overflow: hidden }
.bar span { color: #fff; font-size: 12px; padding: 2px 6px; white-space: nowrap; overflow: hidden }
.step { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; margin: 10px 0 }
.step header { font-size: 12.5px; color: var(--soft); display: flex; justify-content: space-between }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 6px 0 0; font: 13px/1.65 ui-monospace, monospace }
.scaffold pre, .documents pre { color: var(--soft) } .policy { border-color: #b9c9f2 } .search, .look { border-color: #a9dcc6 }
.token { border-radius: 3px } .pages { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 8px }
figure { margin: 0; width: 190px } figure img { width: 100%; border: 1px solid var(--line); border-radius: 4px; display: block }
figcaption { font-size: 12px; overflow-wrap: anywhere } .cited figcaption { color: var(--found); font-weight: 600 }
"""
_COLOURS = {"generate": "#2456c7", "search": "#0c7a53", "other": "#98a2b3"}
_ROW, _BOX_WIDTH, _COLUMN = 46, 205, 268
_SHOWN = 27


def replay_page(replay: Replay, draw: Draw = lambda address, query: None) -> str:
    """The HTML. Everything that came from a model or a page is escaped; there is no script in it.

    Args:
        draw: for the thumbnails; called once per page and query.
    """
    cited = list(replay.answer.get("citations", ()))
    parts = [
        f"<h1>{escape(replay.question)}</h1>",
        _answer(replay),
        "<h2>The path</h2>",
        _graph(replay, cited),
        "<h2>Time</h2>",
        _time(replay),
        "<h2>Step by step</h2>",
        '<p class="soft">The redder a token of the policy, the less likely it was; the thicker the blue line below, the more '
        "open the choice (entropy). Both are in its tooltip.</p>",
        *(_step(step, cited, draw) for step in replay.steps),
    ]
    models = ", ".join(f"{role} {name}" for role, name in replay.models.items())
    parts.append(f'<p class="soft">{escape(models)}</p>')
    head = f'<meta charset="utf-8"><title>{escape(replay.question)}</title><style>{_STYLE}</style>'
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html><html lang="en"><head><meta http-equiv="Content-Security-Policy" content="{policy}">{head}</head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _answer(replay: Replay) -> str:
    answer = replay.answer
    if answer.get("answer"):
        places = ", ".join(f"<code>{escape(str(place))}</code>" for place in answer["citations"])
        return f'<div class="answer">{escape(str(answer["answer"]))}<div class="soft">{places}</div></div>'
    reason = answer.get("reason") or replay.error or f"The trace ends: {replay.stop}."
    written = answer.get("written")
    said = f'<div class="soft">the policy wrote «{escape(" ".join(str(written).split()))}»</div>' if written else ""
    return f'<div class="answer none">No answer. {escape(str(reason))}{said}</div>'


def _graph(replay: Replay, cited: Sequence[str]) -> str:
    """Question, searches, pages, answer in four columns; a page stands once, however often it was found."""
    pages = list(dict.fromkeys(hit.address for step in replay.searches for hit in step.hits))
    columns = [[replay.question], [f"«{step.text}»" for step in replay.searches], pages, [_said(replay)]]
    height = max(len(column) for column in columns) * _ROW + 6

    def place(column: int, row: int) -> tuple[float, float]:
        return column * _COLUMN + 2, 3 + (row + 0.5) * (height - 6) / max(1, len(columns[column]))

    lines: list[str] = []

    def edge(start: tuple[int, int], end: tuple[int, int], strong: bool) -> None:
        (x0, y0), (x1, y1) = place(*start), place(*end)
        x0 += _BOX_WIDTH
        middle = (x0 + x1) / 2
        style = 'stroke="#0c7a53" stroke-width="2"' if strong else 'stroke="#c3cad6"'
        lines.append(f'<path d="M{x0},{y0:.1f} C{middle},{y0:.1f} {middle},{y1:.1f} {x1},{y1:.1f}" fill="none" {style}/>')

    for i, step in enumerate(replay.searches):
        edge((0, 0), (1, i), strong=any(hit.address in cited for hit in step.hits))
        for hit in step.hits:
            edge((1, i), (2, pages.index(hit.address)), strong=hit.address in cited)
    for i, page in enumerate(pages):
        if page in cited:
            edge((2, i), (3, 0), strong=True)
    for column, texts in enumerate(columns):
        for row, text in enumerate(texts):
            x, y = place(column, row)
            colour = "#0c7a53" if text in cited else "#98a2b3"
            short = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
            lines.append(
                f'<g><title>{escape(text)}</title><rect x="{x}" y="{y - 15:.1f}" width="{_BOX_WIDTH}" height="30" rx="6" '
                f'fill="#fff" stroke="{colour}"/><text x="{x + 9}" y="{y + 4:.1f}">{escape(short)}</text></g>'
            )
    return f'<svg viewBox="0 0 {3 * _COLUMN + _BOX_WIDTH + 4} {height}" width="100%" role="img">{"".join(lines)}</svg>'


def _said(replay: Replay) -> str:
    return str(replay.answer.get("answer") or "no answer")


def _time(replay: Replay) -> str:
    total = replay.timing_s.get("total", 0.0)
    spent = {name: replay.timing_s.get(name, 0.0) for name in ("generate", "search")}
    spent["other"] = max(0.0, total - sum(spent.values()))
    spans = "".join(
        f'<span style="width:{100 * seconds / total:.2f}%;background:{_COLOURS[name]}" title="{name} {seconds:.2f} s">'
        f"{name} {seconds:.2f} s</span>"
        for name, seconds in spent.items()
        if total and seconds / total > 0.001
    )
    tokens = sum(len(step.tokens) for step in replay.steps)
    rate = f", {tokens / spent['generate']:.1f} tokens/s" if spent["generate"] else ""
    return (
        f'<div class="bar">{spans}</div><p class="soft">{total:.2f} s, {tokens} tokens written{rate}; {escape(replay.stop)}</p>'
    )


def _step(step: Step, cited: Sequence[str], draw: Draw) -> str:
    took = f"{step.end_s - step.begin_s:.2f} s"
    titles = {"policy": "the policy", "scaffold": "the environment", "documents": "documents", "search": "search"}
    title = titles.get(step.kind, step.kind)
    if step.kind == "search":
        body = f"<pre>«{escape(step.text)}»</pre>"
        body += f'<p class="soft">{escape(step.notice)}</p>' if step.notice else ""
        body += f'<div class="pages">{"".join(_page(hit, step.text, cited, draw) for hit in step.hits)}</div>'
    elif step.kind == "look":
        picture = draw(step.place, "") if step.place else None
        body = f"<pre>{escape(step.text)}</pre>"
        body += f'<p class="soft">{escape(step.notice)}</p>' if step.notice else ""
        body += f'<div class="pages"><figure>{_image(step.text, picture)}</figure></div>'
    elif step.tokens:
        body = f"<pre>{''.join(map(_token, step.tokens))}</pre>"
    else:
        body = f"<pre>{escape(step.text)}</pre>"
    return f'<section class="step {step.kind}"><header><span>{title}</span><span>{took}</span></header>{body}</section>'


def _page(hit: Hit, query: str, cited: Sequence[str], draw: Draw) -> str:
    image = _image(hit.address, draw(hit.address, query))
    kind = ' class="cited"' if hit.address in cited else ""
    return f"<figure{kind}>{image}<figcaption>({hit.number}) {escape(hit.address)} · {hit.score:.3f}</figcaption></figure>"


def _token(token: Token) -> str:
    surprise = 1 - math.exp(min(0.0, token.logprob))
    colour = f"rgba(226,32,28,{0.45 * surprise:.2f})"
    title = f"log-probability {token.logprob:.2f}"
    line = ""
    if token.entropy is not None:
        title += f", entropy {token.entropy:.2f} nats"
        line = f";border-bottom:{min(4.0, token.entropy):.1f}px solid #2456c7"
    return f'<span class="token" style="background:{colour}{line}" title="{title}">{escape(token.text)}</span>'


def _image(name: str, picture: Image.Image | None) -> str:
    if picture is None:
        return ""
    small = picture.convert("RGB")
    small.thumbnail((380, 560))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=72)
    url = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
    return f'<img alt="{escape(name)}" src="{url}">'
