"""Pages to practise on: coloured shapes, a large number and a word on each, and questions that name what is there.

Every page of a set is another combination, so a model that answers for pages it has not seen has learned to see shapes,
colours and letters, and which words name them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reportlab.lib.colors import HexColor
from reportlab.pdfgen.canvas import Canvas

from colsearcher.indexes.address import Address, Box
from colsearcher.training.question import GoldBox, Question

COLOURS = {
    "red": "#d62728",
    "blue": "#1f4fd6",
    "green": "#1f9a3a",
    "orange": "#ff9a1a",
    "purple": "#8a2fc9",
    "black": "#1a1a1a",
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
WORDS = ("ALPHA", "BETA", "DELTA", "KAPPA", "OMEGA", "SIGMA", "FIR", "RUBY")

PAGES_PER_FILE = 50
_SHAPES_ON_PAGE = 3
_WIDTH, _HEIGHT = 420.0, 420.0
_ROWS, _COLUMNS = 3, 2
# From where to where capitals and digits of the font reach, round ones too, over the baseline and of its size.
_LOWEST, _HIGHEST = -0.019, 0.737
_SWAY = 6.0  # points that things stand off the middle of their cell, at most


@dataclass(frozen=True, order=True)
class Picture:
    """What is on a page, without where: shapes as (colour, shape), the number and the word."""

    shapes: tuple[tuple[str, str], ...]
    number: int
    word: str


def pictures(count: int, rng: random.Random, *, without: frozenset[Picture] = frozenset()) -> list[Picture]:
    """So many different pictures, none of those in `without`."""
    made: dict[Picture, None] = {}
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    while len(made) < count:
        shapes = tuple(sorted(rng.sample(kinds, _SHAPES_ON_PAGE)))
        picture = Picture(shapes, rng.randrange(10), rng.choice(WORDS))
        if picture not in without:
            made[picture] = None
    return list(made)


def question_text(picture: Picture, rng: random.Random) -> str:
    """A question that names all that is on the page, in an order of its own.

    >>> question_text(Picture((("blue", "star"), ("red", "ring")), 4, "BETA"), random.Random(1))
    'Which page shows the word BETA, a blue star, the number 4 and a red ring?'
    """
    parts = [f"a {colour} {shape}" for colour, shape in picture.shapes]
    parts += [f"the number {picture.number}", f"the word {picture.word}"]
    rng.shuffle(parts)
    return f"Which page shows {', '.join(parts[:-1])} and {parts[-1]}?"


def vocabulary() -> str:
    """All words that questions are made of."""
    every = [*COLOURS, *SHAPES, *map(str, range(10)), *WORDS]
    return " ".join([question_text(Picture((), 0, ""), random.Random(0)), "a , .", *every])


def write_pages(folder: Path, name: str, drawn: Sequence[Picture], rng: random.Random) -> list[Question]:
    """Draw the pictures into PDFs of 50 pages, `<name>-<nn>.pdf`, and ask for each page.

    Returns one question per page; its document id is the file's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    questions: list[Question] = []
    for start in range(0, len(drawn), PAGES_PER_FILE):
        document = f"{name}-{start // PAGES_PER_FILE + 1:02}.pdf"
        canvas = Canvas(str(folder / document), pagesize=(_WIDTH, _HEIGHT), invariant=1)
        for number, picture in enumerate(drawn[start : start + PAGES_PER_FILE], 1):
            drawn_at = _draw(canvas, picture, rng)
            canvas.showPage()
            place = Address(document, number)
            boxes = tuple(GoldBox(replace(place, box=_fractions(box)), words) for words, box in drawn_at.items())
            text, answers = question_text(picture, rng), (picture.word,)
            questions.append(Question(f"{name}-{len(questions) + 1}", text, answers, frozenset({place}), boxes=boxes))
        canvas.save()
    return questions


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Write questions as the JSONL that `load_questions` reads."""
    with path.open("w", encoding="utf-8") as file:
        for question in questions:
            place = min(question.evidence)
            record = {
                "id": question.id,
                "doc": place.document,
                "question": question.text,
                "answers": list(question.answers),
                "evidence_pages": [place.page],
                "boxes": [{"address": str(gold.address), "words": gold.words} for gold in question.boxes],
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _draw(canvas: Canvas, picture: Picture, rng: random.Random) -> dict[str, Box]:
    """The word takes a row of its own; the shapes and the number are strewn over the cells of the other rows.

    Returns the box around each thing under the words that name it: left, bottom, right and top in points.
    """
    row_height, cell_width = _HEIGHT / _ROWS, _WIDTH / _COLUMNS
    word_row = rng.randrange(_ROWS)
    cells = [(row, column) for row in range(_ROWS) if row != word_row for column in range(_COLUMNS)]
    places = rng.sample(cells, len(picture.shapes) + 1)
    canvas.setFillColor(HexColor("#000000"))
    x, y = _WIDTH / 2 + rng.uniform(-_SWAY, _SWAY), (word_row + 0.5) * row_height - 30 + rng.uniform(-_SWAY, _SWAY)
    drawn_at = {picture.word: _draw_text(canvas, picture.word, x, y, 84)}
    row, column = places[0]
    x, y = (column + 0.5) * cell_width + rng.uniform(-_SWAY, _SWAY), (row + 0.5) * row_height - 43 + rng.uniform(-_SWAY, _SWAY)
    drawn_at[str(picture.number)] = _draw_text(canvas, str(picture.number), x, y, 120)
    for (colour, shape), (row, column) in zip(picture.shapes, places[1:], strict=True):
        radius = rng.uniform(54, 60)
        x = (column + 0.5) * cell_width + rng.uniform(-_SWAY, _SWAY)
        y = (row + 0.5) * row_height + rng.uniform(-_SWAY, _SWAY)
        drawn_at[f"{colour} {shape}"] = _draw_shape(canvas, shape, x, y, radius, HexColor(COLOURS[colour]))
    return drawn_at


def _draw_text(canvas: Canvas, text: str, x: float, y: float, size: float) -> Box:
    """Capitals or digits around x on a baseline."""
    canvas.setFont("Helvetica-Bold", size)
    canvas.drawCentredString(x, y, text)
    half = canvas.stringWidth(text, "Helvetica-Bold", size) / 2
    return x - half, y + _LOWEST * size, x + half, y + _HIGHEST * size


def _draw_shape(canvas: Canvas, shape: str, x: float, y: float, radius: float, colour: HexColor) -> Box:
    canvas.setFillColor(colour)
    canvas.setStrokeColor(colour)
    reach = radius
    if shape == "circle":
        canvas.circle(x, y, radius, stroke=0, fill=1)
    elif shape == "ring":
        canvas.setLineWidth(radius * 0.35)
        canvas.circle(x, y, radius * 0.8, stroke=1, fill=0)
        reach = radius * (0.8 + 0.35 / 2)
    elif shape == "cross":
        arm = radius * 0.33
        canvas.rect(x - radius, y - arm, 2 * radius, 2 * arm, stroke=0, fill=1)
        canvas.rect(x - arm, y - radius, 2 * arm, 2 * radius, stroke=0, fill=1)
    else:
        corners = _corners(shape, x, y, radius)
        _polygon(canvas, corners)
        across, up = zip(*corners, strict=True)
        return min(across), min(up), max(across), max(up)
    return x - reach, y - reach, x + reach, y + reach


def _fractions(box: Box) -> Box:
    """What is on the page of a box in points from the bottom left, as fractions of the page from the top left."""
    left, bottom, right, top = box
    return max(0, left / _WIDTH), max(0, 1 - top / _HEIGHT), min(1, right / _WIDTH), min(1, 1 - bottom / _HEIGHT)


def _corners(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    if shape == "square":
        turns, radii = [0.125, 0.375, 0.625, 0.875], [radius * 1.2] * 4
    elif shape == "triangle":
        turns, radii = [0.25, 0.25 + 1 / 3, 0.25 + 2 / 3], [radius * 1.15] * 3
    else:
        turns, radii = [0.25 + i / 10 for i in range(10)], [radius * 1.15, radius * 0.45] * 5
    return [
        (x + r * math.cos(2 * math.pi * turn), y + r * math.sin(2 * math.pi * turn))
        for turn, r in zip(turns, radii, strict=True)
    ]


def _polygon(canvas: Canvas, corners: Sequence[tuple[float, float]]) -> None:
    path = canvas.beginPath()
    path.moveTo(*corners[0])
    for corner in corners[1:]:
        path.lineTo(*corner)
    path.close()
    canvas.drawPath(path, stroke=0, fill=1)
