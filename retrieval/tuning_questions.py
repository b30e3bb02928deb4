"""Questions to tune an index with: the user's own, or runs of words from its pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from colsearcher.indexes.errors import UserError
from colsearcher.indexes.page_index import PageIndex

_MIN_WORDS, _MAX_WORDS = 6, 16


def read_questions(path: Path) -> list[str]:
    """One question a line; empty lines are left out.

    Raises:
        UserError: the file cannot be read or has no question.
    """
    try:
        questions = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); give a UTF-8 text file with one question a line.") from None
    if not questions:
        raise UserError(f"{path} has no question in it; give a text file with one question a line.")
    return questions


def sample_questions(index: PageIndex, count: int, seed: int = 0) -> list[str]:
    """Runs of words from pages chosen at random; none where the pages have no words."""
    rng = np.random.default_rng(seed)
    pages = index.pages()
    questions = []
    for i in rng.permutation(len(pages))[: 4 * count]:
        words = index.page(*pages[i]).text.split()
        if len(words) >= _MIN_WORDS:
            length = int(rng.integers(_MIN_WORDS, _MAX_WORDS + 1))
            start = int(rng.integers(0, max(1, len(words) - length)))
            question = " ".join(words[start : start + length])
            if any(character.isalnum() for character in question):  # dots of a table of contents are nothing to ask
                questions.append(question)
        if len(questions) == count:
            break
    return questions
