"""Reads files of questions: JSONL, or one JSON document with a list `data` as the RRC's downloads are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from colsearcher.indexes.errors import UserError
from colsearcher.training.question import Question
from colsearcher.training.question_formats import question_of


def load_questions(path: Path, limit: int | None = None) -> list[Question]:
    """Read a file of questions.

    A record is `{"id", "doc", "question", "answers": […], "evidence_pages": [1-based]}`; or a HotpotQA-style record `{"id",
    "question", "answers", "context": [{"title", "sentences"}], "supporting_facts": [{"title", …}]}`. The former may have

    * `"evidence"`, a list of page addresses that may span documents;
    * `"boxes"`, a list of `{"address": "a.pdf#p=3&box=x0,y0,x1,y1"}` on these pages, each with `"words"` where it is about
      these words of the question alone.

    `question_formats` has the others: DocVQA, MP-DocVQA, InfographicVQA, R1-Searcher.

    Raises:
        UserError: no such file, a line that is not such a record, no question at all, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"The limit is {limit}; ask for at least one question.")
    questions = []
    for number, record in itertools.islice(_records(path), limit):
        try:
            questions.append(question_of(record))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{path}:{number} has something missing or of the wrong type ({error}); a line is "
                '{"id": …, "doc": …, "question": …, "answers": […], "evidence_pages": […]}.'
            ) from None
    if not questions:
        raise UserError(f"{path} holds no questions; give a JSONL file with one question per line.")
    return questions


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a JSONL file of questions.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; name a JSONL file of questions.") from None
    if path.suffix == ".json":
        yield from enumerate(_listed(path, text), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number} is not JSON ({error.msg}); write one JSON object per line.") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number} is not a JSON object; write one JSON object per line.")
        yield number, record


def _listed(path: Path, text: str) -> list[dict[str, Any]]:
    """The records of one JSON document: a list, or an object with the list `data`."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON ({error.msg}); a file of one JSON object per line is named .jsonl.") from None
    records = document.get("data") if isinstance(document, dict) else document
    if not isinstance(records, list) or any(not isinstance(record, dict) for record in records):
        raise UserError(f"{path} holds no list of questions; DocVQA's files have one under «data».")
    return records
