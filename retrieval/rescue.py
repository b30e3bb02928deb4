"""What can be saved of a PDF whose end is missing, where its catalog, page tree and offsets usually are."""

from __future__ import annotations

import re

_OBJECT = re.compile(rb"(?<!\d)(\d{1,8})\s+(\d{1,5})\s+obj\b(.*?)(?:endobj|stream\b|\Z)", re.DOTALL)
_PAGE = re.compile(rb"/Type\s*/Page\b")
_NO_PAGES = re.compile(rb"/Type\s*/Pages\b[^>]*/Count\s+0\b|/Count\s+0\b[^>]*/Type\s*/Pages\b")


def with_new_page_tree(data: bytes) -> bytes | None:
    """The file with a new catalog and page tree over the page objects that are still in it; None where there is none.

    Pages come in the order in which they stand in the file. What they inherited from the lost tree is lost, and so are
    pages inside compressed object streams.
    """
    pages: dict[bytes, bytes] = {}
    highest = 0
    for match in _OBJECT.finditer(data):
        number, generation, body = match.groups()
        highest = max(highest, int(number))
        if _PAGE.search(body):
            pages.setdefault(number, b"%s %s R" % (number, generation))
    if not pages:
        return None
    catalog, tree = highest + 1, highest + 2
    return data + (
        b"\nendstream\nendobj\n"
        b"%d 0 obj\n<</Type/Catalog/Pages %d 0 R>>\nendobj\n"
        b"%d 0 obj\n<</Type/Pages/Count %d/Kids[%s]>>\nendobj\n"
        b"trailer\n<</Root %d 0 R/Size %d>>\nstartxref\n0\n%%%%EOF\n"
    ) % (catalog, tree, tree, len(pages), b" ".join(pages.values()), catalog, tree + 1)


def has_no_pages(data: bytes) -> bool:
    """Whether the file itself says that it has no pages."""
    return _NO_PAGES.search(data) is not None
