"""One record of a question file, in any of the formats that questions come in, as a `Question`.

| format | told by | gold pages |
|---|---|---|
| ours | `evidence_pages` or `evidence` | as given |
| HotpotQA style | `context` | titles of the supporting facts, page 1 |
| MP-DocVQA (RRC) | `page_ids` | the image of `answer_page_idx` |
| DocVQA, ChartQA… (RRC) | `image` | the image |
| InfographicVQA (RRC) | `image_local_name` | the image |
| R1-Searcher, MuSiQue… | nothing but question and answers | not known |

An image is a document of one page; its id is its name in the record.
"""

from __future__ import annotations

from typing import Any, TypeVar

from colsearcher.indexes.address import Address
from colsearcher.retrieval.named_words import has_words
from colsearcher.training.question import GoldBox, Paragraph, Question

T = TypeVar("T")


def question_of(record: dict[str, Any]) -> Question:
    """Read a record.

    Raises:
        KeyError, TypeError, ValueError: something is missing, of the wrong type or wrong; the message says what.
    """
    if "context" in record:
        return _context_question(record)
    if "evidence" in record or "evidence_pages" in record:
        return _page_question(record)
    if "page_ids" in record:
        return _several_pages_question(record)
    for name in ("image", "image_local_name"):
        if name in record:
            return _plain_question(record, frozenset({Address(_value(record, name, str), 1)}))
    if "doc" in record:
        raise KeyError("evidence_pages")
    return _plain_question(record, frozenset())


def _plain_question(record: dict[str, Any], evidence: frozenset[Address]) -> Question:
    named = next((name for name in ("id", "questionId", "question_id") if name in record), "id")
    answers = _list(record, "answers", str) if "answers" in record else (_value(record, "answer", str),)
    return Question(str(record[named]), _value(record, "question", str), answers, evidence, answerable=bool(answers))


def _several_pages_question(record: dict[str, Any]) -> Question:
    pages = _list(record, "page_ids", str)
    at = int(record["answer_page_idx"])
    if not 0 <= at < len(pages):
        raise ValueError(f"answer_page_idx is {at}, and there are {len(pages)} page_ids")
    return _plain_question(record, frozenset({Address(f"{pages[at]}.jpg", 1)}))


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
    answers = _list(record, "answers", str)
    return Question(str(record["id"]), text, answers, evidence, boxes=boxes, answerable=bool(evidence))


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
