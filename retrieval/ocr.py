"""Words of a page that has none in its file: PP-OCRv6 small on OpenVINO, with the weights inside the `rapidocr` wheel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from colsearcher.indexes.address import Box
from colsearcher.retrieval.page import Word
from colsearcher.retrieval.reading_order import reading_order
from colsearcher.retrieval.weights import PinnedFile

WEIGHTS = (
    PinnedFile(
        "rapidocr",
        "models/PP-OCRv6_det_small.onnx",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
        "PP-OCRv6 small, detection",
    ),
    PinnedFile(
        "rapidocr",
        "models/PP-OCRv6_rec_small.onnx",
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
        "PP-OCRv6 small, recognition",
    ),
)

# A piece of a line as the recogniser reports it: text, score, corners (4, 2) in pixels.
_Piece = tuple[str, float, Sequence[Sequence[float]]]


class OcrEngine:
    """The text recogniser. Nothing is downloaded.

    Args:
        threads: processor threads to use.
        max_side: pictures are read at this length of their longer side at most, in pixels.

    Raises:
        ModelProblem: the weights are missing or are not the pinned ones.
    """

    name = "PP-OCRv6 small"

    def __init__(self, threads: int, max_side: int = 1600) -> None:
        det, rec = (pinned.checked() for pinned in WEIGHTS)
        # It takes seconds to import, and most readers never meet a scan.
        from rapidocr import EngineType, RapidOCR

        self._engine = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_cls": False,
                "Global.max_side_len": max_side,
                "Det.engine_type": EngineType.OPENVINO,
                "Det.model_path": str(det),
                "Rec.engine_type": EngineType.OPENVINO,
                "Rec.model_path": str(rec),
                "EngineConfig.openvino.inference_num_threads": threads,
            }
        )

    def words(self, picture: Image.Image) -> tuple[Word, ...]:
        """The words of an RGB picture in reading order, boxes in fractions of it."""
        bgr = np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])
        result: Any = self._engine(bgr, return_word_box=True)
        if result.txts is None:
            return ()
        lines = [
            words_of_line(text, pieces, picture.size) for text, pieces in zip(result.txts, result.word_results, strict=True)
        ]
        lines = [line for line in lines if line]
        order = reading_order([_around([word.box for word in line]) for line in lines])
        return tuple(word for index in order for word in lines[index])


def words_of_line(text: str, pieces: Sequence[_Piece], size: tuple[int, int]) -> list[Word]:
    """The words of one recognised line.

    Args:
        text: the line's text; it is cut at white space.
        pieces: what the recogniser took for words: Latin words, single Chinese characters.
        size: the picture's width and height in pixels.
    """
    words: list[Word] = []
    tokens = text.split()
    rest = [piece for piece in pieces if piece[0].strip()]
    if "".join(tokens) != "".join(piece[0] for piece in rest):
        tokens = [piece[0] for piece in rest]
    for token in tokens:
        used, length = 0, 0
        while length < len(token):
            length += len(rest[used][0])
            used += 1
        words.append(Word(token, _around([_fractions(piece[2], size) for piece in rest[:used]])))
        rest = rest[used:]
    return words


def _fractions(corners: Sequence[Sequence[float]], size: tuple[int, int]) -> Box:
    xs = [min(max(float(x) / size[0], 0.0), 1.0) for x, _ in corners]
    ys = [min(max(float(y) / size[1], 0.0), 1.0) for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _around(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
