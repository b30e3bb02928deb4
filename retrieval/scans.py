"""Which pages need OCR, and how its words join those of the text layer."""

from __future__ import annotations

from collections.abc import Sequence

from colsearcher.retrieval.page import OcrReason, Word

# Fewer words than FEW are no text layer; fewer than STAMP over a picture of STAMP_SHARE of the page are a stamp on a scan.
FEW = 5
STAMP = 20
STAMP_SHARE = 0.6


def needs_ocr(words: int, image_share: float) -> OcrReason | None:
    """Why the text layer of a page that is not blank does not say what is on it, None where it does.

    Args:
        words: how many words the text layer has.
        image_share: the part of the page, 0 to 1, that the largest picture on it covers.

    >>> needs_ocr(0, 0.0), needs_ocr(12, 1.0), needs_ocr(12, 0.3), needs_ocr(300, 1.0)
    ('no text', 'stamp', None, None)
    """
    if words < FEW:
        return "no text"
    return "stamp" if words < STAMP and image_share >= STAMP_SHARE else None


def merge_words(layer: Sequence[Word], ocr: Sequence[Word]) -> tuple[Word, ...]:
    """OCR words with those of the text layer, each word once: where both have one, the layer's spelling counts.

    A layer's word takes the place of the first OCR word that it covers; those that cover none come first.
    """
    before: list[Word] = []
    replaced: dict[int, list[Word]] = {}
    dropped: set[int] = set()
    for word in layer:
        covered = [index for index, other in enumerate(ocr) if _overlap(word, other) >= 0.5]
        dropped.update(covered)
        if covered:
            replaced.setdefault(covered[0], []).append(word)
        else:
            before.append(word)
    merged = before
    for index, word in enumerate(ocr):
        merged += replaced.get(index, [])
        if index not in dropped:
            merged.append(word)
    return tuple(merged)


def _overlap(a: Word, b: Word) -> float:
    """The common area of two words' boxes as a part of the smaller box; 0 where one is three times as high.

    So a watermark across the page covers none of the words under it.
    """
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    (a_width, a_height), (b_width, b_height) = ((x.box[2] - x.box[0], x.box[3] - x.box[1]) for x in (a, b))
    if width <= 0 or height <= 0 or max(a_height, b_height) > 3 * min(a_height, b_height):
        return 0.0
    return width * height / min(a_width * a_height, b_width * b_height)
