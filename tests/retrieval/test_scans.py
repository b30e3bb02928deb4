import pytest

from colsearcher.retrieval.page import Word
from colsearcher.retrieval.reading_order import reading_order
from colsearcher.retrieval.scans import merge_words, needs_ocr


@pytest.mark.parametrize(
    ("words", "share", "reason"),
    [(0, 0.0, "no text"), (4, 1.0, "no text"), (5, 0.59, None), (5, 0.6, "stamp"), (19, 1.0, "stamp"), (20, 1.0, None)],
)
def test_which_pages_need_ocr(words: int, share: float, reason: str | None) -> None:
    assert needs_ocr(words, share) == reason


def test_a_stamp_and_what_ocr_sees_of_it_are_merged() -> None:
    stamp = [Word("Case", (0.1, 0.01, 0.2, 0.03)), Word("2:18-cv", (0.21, 0.01, 0.3, 0.03))]
    hidden = Word("hidden", (0.5, 0.5, 0.6, 0.52))
    watermark = Word("DRAFT", (0.0, 0.0, 1.0, 1.0))
    seen = [
        Word("Case2:18cv", (0.1, 0.008, 0.3, 0.032)),
        Word("United", (0.1, 0.1, 0.2, 0.12)),
        Word("States", (0.21, 0.1, 0.3, 0.12)),
    ]
    merged = merge_words([*stamp, hidden, watermark], seen)
    assert [word.text for word in merged] == ["hidden", "DRAFT", "Case", "2:18-cv", "United", "States"]


def column(x0: float, x1: float, rows: int, top: float = 0.2) -> list[tuple[float, float, float, float]]:
    return [(x0, top + 0.03 * row, x1, top + 0.03 * row + 0.022) for row in range(rows)]


def test_columns_are_read_one_after_the_other() -> None:
    title, left, right = [(0.1, 0.05, 0.9, 0.08)], column(0.1, 0.45, 9), column(0.55, 0.9, 7)
    footer = [(0.4, 0.9, 0.6, 0.92)]
    boxes = title + [box for pair in zip(left, right, strict=False) for box in pair] + left[7:] + footer
    assert [boxes[i] for i in reading_order(boxes)] == title + left + right + footer


def test_tables_and_tilted_lines_are_read_row_by_row() -> None:
    labels, values = column(0.1, 0.2, 5), column(0.4, 0.9, 5)
    rows = [box for pair in zip(labels, values, strict=True) for box in pair]
    assert [rows[::-1][i] for i in reading_order(rows[::-1])] == rows
    touching = [(0.1, 0.1, 0.9, 0.13), (0.1, 0.128, 0.9, 0.158), (0.1, 0.156, 0.9, 0.186)]
    assert reading_order(touching[::-1]) == [2, 1, 0]
    assert reading_order([]) == []
