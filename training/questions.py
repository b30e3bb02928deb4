"""Questions with gold answers, gold pages and gold boxes, and the file formats they come in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from colsearcher.indexes.address import Address, Box
from colsearcher.indexes.errors import UserError
from colsearcher.retrieval.named_words import has_words

T = TypeVar("T")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a HotpotQA-style record."""

    title: str
    text: str


@dataclass(frozen=True)
class GoldBox:
    """Where on a gold page something that the question asks for stands.

    Attributes:
        address: the page, with the box.
        words: the words of the question that are about it, as they follow each other there; "" for all of the question.
    """

    address: Address
    words: str = ""

    @property
    def page(self) -> Address:
        return Address(self.address.document, self.address.page)

    @property
    def box(self) -> Box:
        assert self.address.box is not None
        return self.address.box


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        id: unique in its file.
        text: the question.
        answers: accepted answers, at least one.
        evidence: the gold pages, none for a question that the corpus cannot answer. For a record with `context` the
            documents are the titles of its gold paragraphs, page 1.
        context: the record's own paragraphs, empty for a question about an index.
        boxes: where on the gold pages the answer is seen, as far as that is known.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    evidence: frozenset[Address]
    context: tuple[Paragraph, ...] = ()
    boxes: tuple[GoldBox, ...] = ()


def load_questions(path: Path, limit: int | None = None) -> list[Question]:
    """Read a JSONL file of questions.

    A line is `{"id", "doc", "question", "answers": […], "evidence_pages": [1-based]}`; or a HotpotQA-style record `{"id",
    "question", "answers", "context": [{"title", "sentences"}], "supporting_facts": [{"title", …}]}`. The former may have

    * `"evidence"`, a list of page addresses that may span documents;
    * `"boxes"`, a list of `{"address": "a.pdf#p=3&box=x0,y0,x1,y1"}` on these pages, each with `"words"` where it is about
      these words of the question alone.

    Raises:
        UserError: no such file, a line that is not such a record, no question at all, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"The limit is {limit}; ask for at least one question.")
    questions = []
    for number, record in itertools.islice(_records(path), limit):
        try:
            questions.append(_context_question(record) if "context" in record else _page_question(record))
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
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a JSONL file of questions.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; name a JSONL file of questions.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number} is not JSON ({error.msg}); write one JSON object per line.") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number} is not a JSON object; write one JSON object per line.")
        yield number, record


def _page_question(record: dict[str, Any]) -> Question:
    if "evidence" in record:
        evidence = frozenset(Address.parse(text) for text in _list(record, "evidence", str))
    else:
        doc = _value(record, "doc", str)
        evidence = frozenset(Address(doc, page) for page in _list(record, "evidence_pages", int))
    if any(place.page < 1 for place in evidence):
        raise ValueError("evidence_pages count from 1")
    text = _value(record, "question", str)
    boxes = tuple(_gold_box(given, text, evidence) for given in _list(record, "boxes", dict)) if "boxes" in record else ()
    return Question(str(record["id"]), text, _list(record, "answers", str), evidence, boxes=boxes)


def _gold_box(given: dict[str, Any], question: str, evidence: frozenset[Address]) -> GoldBox:
    gold = GoldBox(Address.parse(_value(given, "address", str)), _value(given, "words", str) if "words" in given else "")
    if gold.address.box is None:
        raise ValueError(f"boxes names «{gold.address}», which has no box; write it as a.pdf#p=3&box=x0,y0,x1,y1")
    if gold.page not in evidence:
        raise ValueError(f"the box «{gold.address}» is not on one of the question's pages")
    if "words" in given and not has_words(question, gold.words):
        raise ValueError(f"«{gold.words}», the words of a box, do not follow each other in the question")
    return gold


def _context_question(record: dict[str, Any]) -> Question:
    context = tuple(
        Paragraph(_value(p, "title", str), " ".join("".join(_list(p, "sentences", str)).split())) for p in record["context"]
    )
    evidence = frozenset(Address(_value(fact, "title", str), 1) for fact in record["supporting_facts"])
    return Question(str(record["id"]), _value(record, "question", str), _list(record, "answers", str), evidence, context)


def _value(record: dict[str, Any], name: str, kind: type[T]) -> T:
    if not isinstance(record[name], kind) or isinstance(record[name], bool):
        raise TypeError(f"{name} is not {kind.__name__}")
    return record[name]


def _list(record: dict[str, Any], name: str, kind: type[T]) -> tuple[T, ...]:
    values = record[name]
    if not isinstance(values, list) or any(not isinstance(v, kind) or isinstance(v, bool) for v in values):
        raise TypeError(f"{name} is not a list of {kind.__name__}")
    return tuple(values)
