import random
import re

import numpy as np
import pytest

from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.named_words import has_words
from colsearcher.training.questions import load_questions
from colsearcher.training.retriever.page_files import question_pairs
from colsearcher.training.retriever.practice import write_practice
from colsearcher.training.retriever.practice_pages import COLOURS, pictures, question_text, vocabulary


def test_held_out_pictures_are_new_and_questions_name_all_that_is_on_a_page():
    rng = random.Random(0)
    learned = pictures(300, rng)
    unseen = pictures(100, rng, without=frozenset(learned))
    assert len({*learned, *unseen}) == 400
    known = set(re.findall(r"\w+|[^\w\s]", vocabulary()))
    for picture in unseen:
        text = question_text(picture, rng)
        assert set(re.findall(r"\w+|[^\w\s]", text)) <= known
        assert all(f"a {colour} {shape}" in text for colour, shape in picture.shapes)
        assert f"the number {picture.number}" in text and f"the word {picture.word}" in text


def test_practice_is_the_same_for_the_same_seed_and_pages_show_their_colours(tmp_path):
    command = write_practice(tmp_path / "a", train=52, held_out=3, seed=5)
    write_practice(tmp_path / "b", train=52, held_out=3, seed=5)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert [(tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files] == [True] * len(files)
    assert command[0].startswith("colsearcher train retriever --base ")
    questions = load_questions(tmp_path / "a/train.jsonl")
    learned = question_pairs(tmp_path / "a/train.jsonl", [tmp_path / "a/train"], max_pixels=20_000)
    assert len(questions) == len(learned.pages) == 52 and learned.pages[-1] == "train-02.pdf#p=2"
    for pair in learned.pairs[:5]:
        pixels = np.asarray(learned.draw(pair.page)).reshape(-1, 3).tolist()
        assert len(pixels) <= 20_000
        for colour in re.findall(r"a (\w+) \w+", pair.question):
            shade = [int(COLOURS[colour][i : i + 2], 16) for i in (1, 3, 5)]
            assert pixels.count(shade) > 200
    with pytest.raises(UserError, match="not empty"):
        write_practice(tmp_path / "a", train=2, held_out=1, seed=0)


def test_boxes_are_tight_around_all_that_is_drawn_and_named_in_the_question(tmp_path):
    write_practice(tmp_path / "a", train=30, held_out=1, seed=5)
    learned = question_pairs(tmp_path / "a/train.jsonl", [tmp_path / "a/train"], max_pixels=420**2)
    for pair in learned.pairs:
        ink = (np.asarray(learned.draw(pair.page)) < 250).any(2)
        height, width = ink.shape
        assert len(pair.boxes) == 5 and all(has_words(pair.question, gold.words) for gold in pair.boxes)
        left = ink.copy()
        for gold in pair.boxes:
            x0, y0, x1, y1 = np.array(gold.box) * [width, height, width, height]
            part = np.s_[int(y0) - 1 if y0 > 1 else 0 : int(y1) + 3, int(x0) - 1 if x0 > 1 else 0 : int(x1) + 3]
            rows, columns = np.flatnonzero(ink[part].any(1)), np.flatnonzero(ink[part].any(0))
            # A box is that of the highest glyphs and as wide as the type is set; «1» is narrower than that.
            assert rows[-1] - rows[0] > (y1 - y0) - 9 and columns[-1] - columns[0] > (x1 - x0) * 0.5
            left[part] = False
        assert not left.any()


def test_questions_about_pages_that_are_not_there_are_refused(tmp_path):
    write_practice(tmp_path / "a", train=2, held_out=1, seed=5)
    with pytest.raises(UserError, match=r"1 gold pages of .* \(first: held-out-01.pdf#p=1\)"):
        question_pairs(tmp_path / "a/held-out.jsonl", [tmp_path / "a/train"], max_pixels=20_000)
