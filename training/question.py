"""A question with gold answers, gold pages and gold boxes. Data, no I/O (`questions` reads them)."""

from __future__ import annotations

from dataclasses import dataclass

from colsearcher.indexes.address import Address, Box


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
        evidence: the gold pages, none where they are not known or there is no answer. For a record with `context` the
            documents are the titles of its gold paragraphs, page 1.
        context: the record's own paragraphs, empty for a question about an index.
        boxes: where on the gold pages the answer is seen, as far as that is known.
        answerable: False for a question that the corpus cannot answer.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    evidence: frozenset[Address]
    context: tuple[Paragraph, ...] = ()
    boxes: tuple[GoldBox, ...] = ()
    answerable: bool = True
