"""Questions of other formats as QA.jsonl, with what they are about beside it: page images, PDFs, or passages.

| from | written |
|---|---|
| a dataset with question, answers and image (lmms-lab/DocVQA and its like) | `pages/*.png`, questions about them |
| records with `context` paragraphs (HotpotQA style) | `passages.jsonl`, or as pages `pages/passages-*.pdf` |
| RRC's JSON, R1-Searcher's files and all else that `load_questions` reads | the questions; pages stay where they are |

Gold pages follow their documents.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from colsearcher.indexes.address import Address
from colsearcher.indexes.errors import UserError
from colsearcher.training.dataset_rows import dataset_rows, picture_bytes
from colsearcher.training.question import Paragraph, Question
from colsearcher.training.questions import load_questions

_PAGES_OF_A_FILE = 50
_QUESTION_FILES = (".json", ".jsonl")


@dataclass(frozen=True)
class Imported:
    """What was written."""

    questions: Path
    count: int
    pages: Path | None = None
    passages: Path | None = None

    def lines(self) -> list[str]:
        told = [f"{self.count:,} questions: {self.questions}"]
        if self.pages:
            told.append(f"their pages: {self.pages} (index them with `colsearcher index add {self.pages} --index DIR`)")
        if self.passages:
            told.append(f"their passages: {self.passages} (search them with --search {self.passages})")
        return told


def import_questions(
    source: str, out: Path, *, as_pages: bool = False, limit: int | None = None, tell: Callable[[str], None] = lambda text: None
) -> Imported:
    """Write the questions of a file or dataset.

    Args:
        source: a file of questions, or a dataset's folder, file or hub id, with `:SPLIT` behind it for another than train.
        as_pages: paragraphs become pages of PDFs.

    Raises:
        UserError: `out` is not empty, or the source cannot be read.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder.")
    if Path(source).suffix in _QUESTION_FILES and Path(source).is_file():
        questions = load_questions(Path(source), limit)
        out.mkdir(parents=True, exist_ok=True)
        if all(question.context for question in questions):
            return _with_context(questions, out, as_pages)
        return Imported(*_write(out, [_record(question, question.evidence) for question in questions]))
    out.mkdir(parents=True, exist_ok=True)
    return _from_dataset(source, out, limit, tell)


def _with_context(questions: Sequence[Question], out: Path, as_pages: bool) -> Imported:
    places: dict[Address, list[str]] = {}  # a title's address to the texts that questions have for it
    for question in questions:
        for paragraph in question.context:
            texts = places.setdefault(Address(paragraph.title, 1), [])
            if paragraph.text not in texts:
                texts.append(paragraph.text)
    if not as_pages:
        passages = out / "passages.jsonl"
        lines = [
            json.dumps({"title": place.document, "text": " ".join(texts)}, ensure_ascii=False)
            for place, texts in places.items()
        ]
        passages.write_text("\n".join([*lines, ""]), encoding="utf-8")
        records = [_record(question, question.evidence) for question in questions]
        return Imported(*_write(out, records), passages=passages)
    moved: dict[Address, Address] = {}
    listed = [Paragraph(place.document, " ".join(texts)) for place, texts in places.items()]
    (out / "pages").mkdir()
    for number, start in enumerate(range(0, len(listed), _PAGES_OF_A_FILE), 1):
        name = f"passages-{number:04d}.pdf"
        part = listed[start : start + _PAGES_OF_A_FILE]
        _draw(part, out / "pages" / name)
        moved |= {Address(paragraph.title, 1): Address(name, page) for page, paragraph in enumerate(part, 1)}
    records = [_record(question, [moved[place] for place in question.evidence]) for question in questions]
    return Imported(*_write(out, records), pages=out / "pages")


def _draw(paragraphs: Sequence[Paragraph], path: Path) -> None:
    """A PDF with a paragraph on each page, its title above it."""
    from reportlab.lib.pagesizes import A5
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import KeepInFrame, PageBreak, SimpleDocTemplate
    from reportlab.platypus import Paragraph as Drawn

    styles = getSampleStyleSheet()
    margin = 42
    room = (A5[0] - 2 * margin - 12, A5[1] - 2 * margin - 12)
    parts: list[Any] = []
    for paragraph in paragraphs:
        texts = [Drawn(escape(paragraph.title), styles["Heading2"]), Drawn(escape(paragraph.text), styles["BodyText"])]
        # What is too long for the page is drawn smaller: one passage is one page.
        parts += [KeepInFrame(*room, texts, mode="shrink"), PageBreak()]
    document = SimpleDocTemplate(
        str(path), pagesize=A5, leftMargin=margin, rightMargin=margin, topMargin=margin, bottomMargin=margin, invariant=1
    )
    document.build(parts)


def _from_dataset(source: str, out: Path, limit: int | None, tell: Callable[[str], None]) -> Imported:
    name, _, split = source.rpartition(":") if ":" in source and not Path(source).exists() else (source, "", "train")
    name, _, config = name.partition("@")
    rows = dataset_rows(name, split, config or None)
    for column in ("question", "answers"):
        if column not in rows.column_names:
            raise UserError(
                f"The dataset {source} has the columns {', '.join(rows.column_names)}; it needs question and answers."
            )
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    beside = Path(name).parent if Path(name).is_file() else Path(name)
    seen = "image" in rows.column_names
    pages = out / "pages"
    if seen:
        pages.mkdir()
    records = list(_records(rows, pages if seen else None, beside, tell))
    return Imported(*_write(out, records), pages=pages if seen else None)


def _records(rows: Any, pages: Path | None, beside: Path, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if number and number % 500 == 0:
            tell(f"{number:,} of {len(rows):,} questions")
        record: dict[str, Any] = {
            "id": str(next((row[name] for name in ("questionId", "question_id", "id") if name in row), number)),
            "question": row["question"],
            "answers": _answers(row["answers"], number),
        }
        if pages is not None:
            data = picture_bytes(row["image"], beside)
            document = f"{_name(row, data)}.png"
            if not (pages / document).exists():
                with Image.open(io.BytesIO(data)) as image:
                    image.convert("RGB").save(pages / document)
            record |= {"doc": document, "evidence_pages": [1]}
        yield record


def _answers(given: Any, number: int) -> list[str]:
    """A list of texts, one text, or SQuAD's texts with their places."""
    texts = given.get("text") if isinstance(given, Mapping) else [given] if isinstance(given, str) else given
    if texts is None:
        return []
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"Row {number + 1:,} of the dataset has the answers {given!r}; a list of texts is wanted.")
    return list(texts)


def _name(row: Mapping[str, Any], data: bytes) -> str:
    """What DocVQA calls a page, or what its bytes come to."""
    document, page = row.get("ucsf_document_id"), row.get("ucsf_document_page_no")
    return f"{document}_{page}" if document and page else hashlib.sha256(data).hexdigest()[:16]


def _record(question: Question, evidence: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"id": question.id, "question": question.text, "answers": list(question.answers)}
    if places := sorted(map(str, evidence)):
        record["evidence"] = places
    return record


def _write(out: Path, records: Sequence[Mapping[str, Any]]) -> tuple[Path, int]:
    path = out / "QA.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path, len(records)
